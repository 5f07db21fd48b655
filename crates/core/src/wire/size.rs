//! The sizes of datagrams, and of the values that they carry.
//!
//! This module owns the limits. The packer, the sockets and the clients keep them.

use crate::text::escaped_len;
use crate::types::MAX_VALUE;

/// The largest datagram. It can carry a legal value with any head of this grammar. In bytes.
pub const MAX_DATAGRAM: usize = 65_507;

/// The bytes reserved for heads, marks and the checksum beside a value in [`MAX_DATAGRAM`].
pub const MAX_HEAD: usize = 272;

/// The reason why a value cannot be carried, if there is one: it is too long, or too long once newlines, carriage
/// returns and backslashes are escaped. The text names the sizes.
pub fn value_refusal(value: &[u8]) -> Option<String> {
    if value.len() > MAX_VALUE {
        return Some(format!("a value of {} bytes is over the limit of {MAX_VALUE}", value.len()));
    }
    let escaped = escaped_len(value);
    (escaped > MAX_DATAGRAM - MAX_HEAD).then(|| {
        format!(
            "a value of {} bytes takes {escaped} on the wire, where newlines and backslashes count \
             twice; the limit is {}",
            value.len(),
            MAX_DATAGRAM - MAX_HEAD
        )
    })
}
