//! `report.html`: one play as a space-time diagram, in one file that needs no network.
//!
//! Owns the data of the page; `page.html` displays it. The wire comes from the file that the world has saved, the
//! script's acts come from the verdict.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::report::{self, Name};
use super::verdict::{End, Verdict};

const TEMPLATE: &str = include_str!("page.html");
const PLACE: &str = "/*DATA*/";

/// Writes the page next to the files that the world has saved in a folder. Without a recorded wire it writes no
/// page.
///
/// # Errors
/// When the wire cannot be read, or the page cannot be written.
pub fn write(folder: &Path, name: Name, verdict: &Verdict) -> Result<()> {
    let file = folder.join("wire.jsonl");
    let wire = match fs::read_to_string(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        wire => wire.with_context(|| format!("cannot read {}", file.display()))?,
    };
    let wire: Result<Vec<Value>, _> = wire.lines().map(passed).collect();
    let wire = wire.with_context(|| format!("cannot understand {}", file.display()))?;
    let page = folder.join("report.html");
    fs::write(&page, filled(name, verdict, wire)).with_context(|| format!("cannot write {}", page.display()))
}

/// Converts a line of the wire to the page's form.
fn passed(line: &str) -> serde_json::Result<Value> {
    let passed: Value = serde_json::from_str(line)?;
    let text = passed["text"].as_str().map_or_else(|| format!("? {}", passed["hex"]), str::to_owned);
    Ok(json!({
        "at": passed["us"],
        "arrives": passed["arrives"],
        "from": passed["from"],
        "to": passed["to"],
        "fate": passed["fate"],
        "text": text,
    }))
}

fn filled(name: Name, verdict: &Verdict, wire: Vec<Value>) -> String {
    let failure = match &verdict.end {
        End::Failed { trouble, .. } => Some(report::failure(name, verdict.seed, trouble, "")),
        _ => None,
    };
    let mut data = report::json(name, verdict);
    data["title"] = json!(name.title);
    data["nodes"] = json!(verdict.nodes);
    data["failure"] = json!(failure);
    data["wire"] = Value::Array(wire);
    // Text from a script must not end the page's script element.
    TEMPLATE.replacen(PLACE, &data.to_string().replace('<', "\\u003c"), 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use upaxos_core::types::Micros;

    use super::*;
    use crate::backends::Kind;

    #[test]
    fn a_value_cannot_end_the_data_of_the_page() {
        let name = Name { script: "a.lua", title: "</script>", world: Kind::Sim };
        let verdict = Verdict { lasted: Micros(5), took: Duration::ZERO, ..Verdict::passed(1) };
        let line = r#"{"us":1,"from":0,"to":"clients","fate":"lost","text":"0 OK 1 </script>"}"#;
        let page = filled(name, &verdict, vec![passed(line).unwrap()]);
        assert_eq!(page.matches("</script>").count(), TEMPLATE.matches("</script>").count());
        assert!(page.contains(r#""fate":"lost""#) && !page.contains(PLACE));
        for needs_network in ["http://", "https://", "src=", "@import"] {
            assert!(!TEMPLATE.contains(needs_network), "the page needs {needs_network}");
        }
    }
}
