//! `--config FILE`: defaults for the daemon's flags, from TOML.
//!
//! Owns the precedence: a flag overrides an environment variable, which overrides the file. The file's values
//! become the defaults of the command line, so that every check of a flag also checks the file. `main` calls this
//! before it parses.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Command};
use toml::{Table, Value};

/// The configuration file: the one in `--config FILE` or `--config=FILE`, else the one in the environment, if any.
/// The search runs before the command line is parsed, because parsing needs the file's values.
pub fn path(args: &[OsString], environment: Option<OsString>) -> Option<PathBuf> {
    let after = |at: usize| args.get(at + 1).map(PathBuf::from);
    let named = args.iter().enumerate().find_map(|(at, arg)| match arg.to_str()? {
        "--config" => after(at),
        joined => joined.strip_prefix("--config=").map(PathBuf::from),
    });
    named.or(environment.map(PathBuf::from))
}

/// Makes the values of a file the defaults of the flags that they name.
///
/// # Errors
/// A sentence about the fault of the file: it is not readable or not TOML, it has an unknown key, or a value that is
/// neither text, a list of texts, a number nor a truth value.
pub fn apply(mut command: Command, file: &Path) -> Result<Command, String> {
    let explain = |what: String| format!("cannot use configuration {}: {what}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| explain(error.to_string()))?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| explain(error.to_string()))?;
    for (key, value) in table {
        let known =
            command.get_arguments().find(|arg| arg.get_long() == Some(key.as_str()) && key != "config");
        let Some(id) = known.map(|arg| arg.get_id().clone()) else {
            let names =
                command.get_arguments().filter_map(|arg| arg.get_long()).collect::<Vec<_>>().join(", ");
            return Err(explain(format!("there is no flag named {key}; there are {names}")));
        };
        let text = match value {
            Value::String(text) => text,
            Value::Integer(number) => number.to_string(),
            Value::Boolean(is_set) => is_set.to_string(),
            Value::Array(items) if items.iter().all(Value::is_str) => {
                let texts: Vec<String> = items.iter().filter_map(Value::as_str).map(str::to_owned).collect();
                command = command.mut_arg(id, |arg| arg.required(false).default_values(texts));
                continue;
            }
            other => {
                return Err(explain(format!(
                    "{key} is a {}; write text, a number, or true",
                    other.type_str()
                )));
            }
        };
        command = command.mut_arg(id, |arg| match arg.get_action() {
            ArgAction::Count => arg,
            _ => arg.required(false).default_value(text),
        });
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::*;
    use crate::cli::Cli;

    fn parsed(file: &str, args: &[&str]) -> Result<Cli, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, file).unwrap();
        let command = apply(Cli::command(), &path)?;
        let matches = command.try_get_matches_from(args).map_err(|error| error.to_string())?;
        Cli::from_arg_matches(&matches).map_err(|error| error.to_string())
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let file = "nodes = 5\nid = 4\nclassic = true\nbeat = \"10ms\"\n";
        let daemon = parsed(file, &["upaxos-node", "-i", "2"]).unwrap().daemon.unwrap();
        assert_eq!((daemon.n, daemon.id, daemon.classic, daemon.beat.0), (Some(5), 2, true, 10_000));
    }

    #[test]
    fn a_key_that_is_no_flag_is_refused_with_the_file_and_the_flags() {
        let error = parsed("node = 5\n", &["upaxos-node", "-i", "2"]).unwrap_err();
        assert!(
            error.contains("node.toml") && error.contains("named node;") && error.contains("nodes"),
            "{error}"
        );
        assert!(parsed("id = 70000\n", &["upaxos-node", "-n", "3"]).unwrap_err().contains("70000"));
    }

    fn config(file: &str, args: &[&str]) -> Result<upaxos_core::replica::Config, String> {
        let Cli { daemon, net, .. } = parsed(file, args)?;
        let options = daemon.unwrap().options(&net).map_err(|error| error.to_string())?;
        Ok(options.config)
    }

    #[test]
    fn a_node_joins_by_flags_or_by_the_file_without_a_group_size() {
        let by_flags = config("", &["upaxos-node", "--join", "-i", "7", "--replace", "2"]).unwrap();
        assert_eq!((by_flags.n, by_flags.joins), (0, Some(Some(upaxos_core::types::NodeId(2)))));
        let by_file = config("join = true\nreplace = 2\n", &["upaxos-node", "-i", "7"]).unwrap();
        assert_eq!((by_file.n, by_file.joins), (by_flags.n, by_flags.joins));
    }

    #[test]
    fn flags_that_do_not_go_together_are_refused_with_the_way_out() {
        for (file, args, way_out) in [
            ("", "-i 7", "pass -n N"),
            ("", "--join -i 7 -n 3", "leave out"),
            ("nodes = 3\n", "--join -i 7", "leave out -n (nodes)"),
            ("", "-n 3 -i 1 --replace 2", "add --join"),
            ("", "-n 3 -i 3", "--join"),
            ("", "--join -i 7 --replace 7", "never"),
            ("", "--join -i 7 --classic", "leave out one"),
            ("", "-n 3 -i 1 --classic --group kitchen", "leave out one"),
            ("classic = true\n", "-n 3 -i 1 --group kitchen", "leave out one"),
            ("", "-n 3 -i 1 --standby", "add --join"),
            ("", "--join -i 7 --standby --replace 2", "leave out --standby or --replace"),
        ] {
            let args: Vec<_> = std::iter::once("upaxos-node").chain(args.split(' ')).collect();
            let error = config(file, &args).unwrap_err();
            assert!(error.contains(way_out), "{args:?}: {error}");
        }
    }

    #[test]
    fn the_file_is_found_on_the_command_line_or_in_the_environment() {
        let args = |args: &[&str]| args.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(path(&args(&["--config", "a"]), Some("b".into())), Some("a".into()));
        assert_eq!(path(&args(&["--config=a"]), None), Some("a".into()));
        assert_eq!(path(&args(&["-n", "3"]), Some("b".into())), Some("b".into()));
        assert_eq!(path(&args(&["--config"]), None), None);
    }
}
