//! Outcomes as JSON, for programs.

use serde_json::{Map, Value as Json, json};
use upaxos_core::client::{FORGOTTEN, Outcome};
use upaxos_core::types::Micros;

/// The result of a request as one JSON object: `request` (the text), `outcome` (`chosen`, `read`, `replied`,
/// `not-yet`, `members`, `refused` or `unknown`) and, where they apply, `instance`, `learned`, `value`, `members`
/// (ids) with `epoch`, `reason` and `ms` (the duration in milliseconds). A `read` used no instance: its `instance`
/// is that of the value, or null if nothing was written. A value that is not UTF-8 stands in `value_hex` instead,
/// two digits per byte.
pub fn request_json(request: &[u8], outcome: &Outcome, took: Micros) -> Json {
    let mut object = Map::new();
    put_bytes(&mut object, "request", request);
    object.insert("outcome".into(), json!(outcome.word()));
    match outcome {
        Outcome::Chosen { instance, value } => {
            object.insert("instance".into(), json!(instance.0));
            put_bytes(&mut object, "value", value.as_bytes());
        }
        Outcome::Read { instance, learned, value } => {
            object.insert("instance".into(), json!((instance.0 > 0).then_some(instance.0)));
            object.insert("learned".into(), json!(learned.0));
            put_bytes(&mut object, "value", value.as_bytes());
        }
        Outcome::Replied { learned, value } => {
            object.insert("learned".into(), json!(learned.0));
            put_bytes(&mut object, "value", value.as_bytes());
        }
        Outcome::NotYet { instance, learned } => {
            object.insert("instance".into(), json!(instance.0));
            object.insert("learned".into(), json!(learned.0));
        }
        Outcome::Members { epoch, learned, members } => {
            object.insert("epoch".into(), json!(epoch.0));
            object.insert("learned".into(), json!(learned.0));
            object.insert("members".into(), json!(members.iter().map(|id| id.0).collect::<Vec<_>>()));
        }
        Outcome::Refused { reason } => put_bytes(&mut object, "reason", reason.as_bytes()),
        Outcome::Forgotten => put_bytes(&mut object, "reason", FORGOTTEN.as_bytes()),
        Outcome::Unknown => {}
    }
    object.insert("ms".into(), json!(took.0 as f64 / 1_000.0));
    Json::Object(object)
}

fn put_bytes(object: &mut Map<String, Json>, key: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(key.into(), json!(text)),
        Err(_) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            object.insert(format!("{key}_hex"), json!(hex))
        }
    };
}

#[cfg(test)]
mod tests {
    use upaxos_core::types::{Epoch, Instance, NodeId};

    use super::*;

    fn told(request: &str, outcome: &Outcome, us: u64) -> String {
        request_json(request.as_bytes(), outcome, Micros(us)).to_string()
    }

    #[test]
    fn a_program_gets_every_part_of_an_outcome() {
        let read = Outcome::Read { instance: Instance(5), learned: Instance(9), value: "a".into() };
        let expected =
            r#"{"request":"fast","outcome":"read","instance":5,"learned":9,"value":"a","ms":0.01}"#;
        assert_eq!(told("fast", &read, 10), expected);
        let members = vec![NodeId(0), NodeId(7)];
        let members = Outcome::Members { epoch: Epoch(5), learned: Instance(41), members };
        let expected =
            r#"{"request":"members","outcome":"members","epoch":5,"learned":41,"members":[0,7],"ms":1.0}"#;
        assert_eq!(told("members", &members, 1_000), expected);
    }

    #[test]
    fn a_value_that_is_not_text_is_in_hex() {
        let chosen = Outcome::Chosen { instance: Instance(3), value: b"a\nb\\\xff"[..].into() };
        let expected =
            r#"{"request":"Request 0","outcome":"chosen","instance":3,"value_hex":"610a625cff","ms":1.234}"#;
        assert_eq!(told("Request 0", &chosen, 1_234), expected);
    }
}
