//! Panics in the course of a play: told in its report with their place, instead of printed in the middle of it.
//!
//! Owns the process's hook of panics. Catches nothing: whoever plays does. A panic outside of every play is
//! printed as ever, or the program would end without a word.

use std::cell::{Cell, RefCell};
use std::panic;

thread_local! {
    static IS_PLAYING: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on a panic in a play prints nothing.
pub fn hush() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| match IS_PLAYING.get() {
        true => LAST.with(|last| *last.borrow_mut() = panic.location().map(ToString::to_string)),
        false => usual(panic),
    }));
}

/// Does what catches its own panics; says as well where the last of them began, if there was one.
pub fn noticed<T>(play: impl FnOnce() -> T) -> (T, Option<String>) {
    IS_PLAYING.set(true);
    let played = play();
    IS_PLAYING.set(false);
    (played, LAST.take())
}
