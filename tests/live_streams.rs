//! Claims about standard output, standard error and signals. A closed, full or unread stream stops no node. No
//! program panics or hangs because of one.

mod live;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use live::group::NODE;
use live::{PATIENCE, any_hosts, eventually, programs};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A first group of one node over UDP, with its own port and directory.
struct Lone {
    port: String,
    /// Holds the port.
    _claim: UdpSocket,
    dir: TempDir,
}

/// A child process. It is killed at the end of the test, also after a failure.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).expect("it runs");
    }

    fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().expect("it is ours") {
                return status;
            }
            assert!(Instant::now() < until, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Lone {
    fn new() -> Lone {
        let claim = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = claim.local_addr().expect("bound").port().to_string();
        Lone { port, _claim: claim, dir: tempfile::tempdir().expect("a folder") }
    }

    fn net(&self) -> [&str; 4] {
        ["--transport", "udp", "-p", &self.port]
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn command(&self, wrapper: &[&str]) -> Command {
        let words: Vec<&str> = wrapper.iter().copied().chain([NODE]).collect();
        let mut command = plain(words[0]);
        command.args(&words[1..]).args(self.net()).args(["-n", "1", "-i", "0", "--dir"]).arg(self.data());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn start(&self, wrapper: &[&str], log: impl Into<Stdio>) -> Process {
        Process(self.command(wrapper).stderr(log).spawn().expect("the node starts"))
    }

    /// Starts a node that logs to a file. Returns when the node is ready.
    fn start_logged(&self, wrapper: &[&str]) -> Process {
        let log = File::create(self.log_file()).expect("a file");
        let node = self.start(wrapper, log);
        eventually("it starts", || self.log().contains("starting 0 of 1"));
        node
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_file()).expect("a log")
    }

    /// Writes the values. Fails unless all are acknowledged.
    fn write(&self, programs: &Path, values: impl Iterator<Item = String>) {
        let mut command = plain(programs.join("upaxos-send"));
        let lines: String = values.map(|value| format!("Request 0 {value}\n")).collect();
        command.args(self.net()).args(["--wait", "--timeout", "20s"]);
        let input = self.dir.path().join("input");
        fs::write(&input, lines).expect("writes");
        let output = command.stdin(File::open(&input).expect("it is there")).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn plain(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for name in ["UPAXOS_ADDRESS", "UPAXOS_INTERFACE", "UPAXOS_CONFIG", "UPAXOS_LOG", "RUST_BACKTRACE"] {
        command.env_remove(name);
    }
    command
}

/// Returns a pipe that is already full. The reader stays open.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = io::pipe().expect("a pipe");
    let set = |flags| fcntl(writer.as_fd(), FcntlArg::F_SETFL(flags)).map(drop);
    set(OFlag::O_NONBLOCK).expect("it is a pipe");
    while writer.write(&[b'\n'; 4096]).is_ok() {}
    let set = |flags| fcntl(writer.as_fd(), FcntlArg::F_SETFL(flags)).map(drop);
    set(OFlag::empty()).expect("it is a pipe");
    (reader, writer)
}

#[test]
fn a_node_goes_on_while_nobody_reads_its_log() {
    let (lone, programs) = (Lone::new(), programs());
    let (reader, writer) = full_pipe();
    let mut node = lone.start(&[], writer);
    lone.write(&programs, (0..100).map(|number| number.to_string()));
    node.signal(Signal::SIGTERM);
    assert_eq!(node.wait().code(), Some(0));
    drop(reader);
}

#[test]
fn what_was_dropped_of_a_log_is_counted_when_it_is_read_again() {
    let (lone, programs) = (Lone::new(), programs());
    let (mut reader, writer) = full_pipe();
    let mut node = lone.start(&[], writer);
    // More log than the node buffers for a reader.
    lone.write(&programs, (0..250).map(|number| format!("{number}{}", "x".repeat(59_000))));
    let reading = std::thread::spawn(move || {
        let mut said = Vec::new();
        reader.read_to_end(&mut said).expect("reads");
        String::from_utf8_lossy(&said).into_owned()
    });
    lone.write(&programs, ["last".to_owned()].into_iter());
    node.signal(Signal::SIGTERM);
    assert_eq!(node.wait().code(), Some(0));
    let said = reading.join().expect("it reads");
    let count = said.lines().find_map(|line| {
        line.split_once("dropped ")?.1.split_once(" log lines: standard error is not being read")
    });
    let (count, _) = count.expect("the log names what was dropped");
    assert!(count.parse::<u64>().expect("a number") > 10, "{count}");
    assert!(said.contains("OK 251 last") && said.contains("ends; learned 251"), "the node continues");
}

#[test]
fn a_fatal_error_ends_a_node_though_nobody_reads_why() {
    let lone = Lone::new();
    fs::write(lone.data(), "a file").expect("writes");
    let (reader, writer) = full_pipe();
    assert_eq!(lone.start(&[], writer).wait().code(), Some(1));
    drop(reader);
}

#[test]
fn a_hangup_is_ignored_where_there_are_no_scripts() {
    let lone = Lone::new();
    let mut node = lone.start_logged(&[]);
    node.signal(Signal::SIGHUP);
    eventually("it says so", || lone.log().contains("ignores SIGHUP"));
    node.signal(Signal::SIGTERM);
    assert_eq!(node.wait().code(), Some(0), "{}", lone.log());
}

#[test]
fn a_limit_on_file_sizes_ends_a_node_with_a_sentence() {
    let lone = Lone::new();
    let (mut reader, writer) = io::pipe().expect("a pipe");
    let mut node = lone.start(&["sh", "-c", r#"ulimit -f 1; exec "$@""#, "sh"], writer);
    assert_eq!(node.wait().code(), Some(1));
    let mut said = String::new();
    reader.read_to_string(&mut said).expect("reads");
    assert!(said.contains("File too large") && said.contains("ulimit -f"), "{said}");
}

#[test]
fn a_node_goes_on_with_capabilities_that_it_may_not_drop() {
    let strace = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-etrace=capset"];
    if !plain(strace[0]).args(&strace[1..]).arg("true").status().is_ok_and(|status| status.success()) {
        return live::skip("strace cannot be used here");
    }
    let lone = Lone::new();
    let mut node = lone.start_logged(&[&strace[..], &["-einject=capset:error=EPERM"]].concat());
    assert!(lone.log().contains("warn: cannot drop the"), "{}", lone.log());
    node.signal(Signal::SIGTERM);
    assert_eq!(node.wait().code(), Some(0), "{}", lone.log());
}

/// A program, its arguments, its status on success, and whether it prints results.
type Case = (&'static str, Vec<String>, i32, bool);

fn cases(lone: &Lone) -> Vec<Case> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let lab = format!("{root}/scripts/labs/first_consensus.lua");
    let hook = format!("{root}/scripts/hooks/ids.lua");
    let data = lone.data().display().to_string();
    let commands = lone.dir.path().join("commands");
    fs::write(&commands, "Request 0 a\nstatus\n").expect("writes");
    let temporary = lone.dir.path().display().to_string();
    let words = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let asked = |first: &str, rest: &str| {
        [words(first), lone.net().map(str::to_owned).to_vec(), words(rest)]
            .concat()
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect()
    };
    vec![
        ("upaxos-node", words("--help"), 0, true),
        ("upaxos-node", words("--version"), 0, true),
        ("upaxos-node", words("bench --help"), 0, true),
        ("upaxos-node", vec![], 2, false),
        ("upaxos-node", words(&format!("check-script {hook}")), 0, true),
        ("upaxos-node", words(&format!("log {data}")), 0, true),
        ("upaxos-node", words("sim --seeds 0..2"), 0, true),
        ("upaxos-node", words("sim --seeds 0..2 --json"), 0, true),
        ("upaxos-node", words(&format!("lab --list {lab}")), 0, true),
        ("upaxos-node", words(&format!("lab {lab}")), 0, true),
        ("upaxos-node", words(&format!("lab --json --seeds 0..2 {lab}")), 0, true),
        ("upaxos-node", words("demo"), 0, true),
        ("upaxos-node", words(&format!("bench --dir {temporary} --seconds 1 --on udp --clients 5")), 0, true),
        ("upaxos-send", words("--help"), 0, true),
        ("upaxos-send", words("--version"), 0, true),
        ("upaxos-send", asked("", "Request 0 x"), 0, false),
        ("upaxos-send", asked("--wait", "Request 0 x"), 0, true),
        ("upaxos-send", asked("--wait --json", "Request 0 x"), 0, true),
        ("upaxos-send", asked("--wait --json --timeout 10ms", "Request 999999"), 3, true),
        ("upaxos-repl", words("--help"), 0, true),
        ("upaxos-repl", words("--version"), 0, true),
        ("upaxos-repl", [asked("", "-e"), vec!["Request 0 x".into()]].concat(), 0, true),
        ("upaxos-repl", asked("--json", "-e status"), 0, true),
        ("upaxos-repl", asked("", "-e help"), 0, true),
        ("upaxos-repl", asked("", commands.to_str().expect("UTF-8")), 0, true),
    ]
}

/// Runs `command` until it ends. Kills it after three times `PATIENCE`.
fn ended(mut command: Command) -> Output {
    let child = command.stdin(Stdio::null()).spawn().expect("the program starts");
    let pid = Pid::from_raw(child.id() as i32);
    let (tell, is_over) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if is_over.recv_timeout(3 * PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    });
    let output = child.wait_with_output().expect("it ends");
    drop(tell);
    watch.join().expect("it watches");
    output
}

/// The write end of a pipe without a reader.
fn gone() -> PipeWriter {
    io::pipe().expect("a pipe").1
}

fn full() -> File {
    File::options().write(true).open("/dev/full").expect("Linux has it")
}

/// Runs the program through a shell that closes the stream: standard output, or the one with number `stream`.
fn closing(program: &Path, stream: &str) -> Command {
    let mut command = plain("sh");
    command.args(["-c", &format!(r#"exec "$@" {stream}>&-"#), "sh"]).arg(program);
    command
}

#[test]
fn no_program_panics_or_hangs_whatever_becomes_of_its_results() {
    if any_hosts().is_none() {
        return;
    }
    let (lone, programs) = (Lone::new(), programs());
    let node = lone.start_logged(&[]);
    lone.write(&programs, ["first".to_owned()].into_iter());
    for (program, args, status, prints) in cases(&lone) {
        let path = programs.join(program);
        let what = format!("{program} {}", args.join(" "));
        let run = |mut command: Command, stdout: Stdio| {
            let output = ended({
                command.args(&args).stdout(stdout).stderr(Stdio::piped());
                command
            });
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (code, said) = run(plain(&path), full().into());
        let why = "cannot write to standard output: No space left on device";
        if prints {
            let complaints =
                said.lines().filter(|line| line.starts_with(&format!("{program}: {why}"))).count();
            assert_eq!((code, complaints), (Some(1), 1), "full: {what}: {said}");
        } else {
            assert_eq!(code, Some(status), "full: {what}: {said}");
        }
        for (name, command, stdout) in
            [("gone", plain(&path), Stdio::from(gone())), ("closed", closing(&path, ""), Stdio::inherit())]
        {
            let (code, said) = run(command, stdout);
            assert_eq!(code, Some(status), "{name}: {what}: {said}");
            assert!(
                !said.contains("standard output") && !said.contains("panicked"),
                "{name}: {what}: {said}"
            );
        }
    }
    drop(node);
}

#[test]
fn no_program_panics_where_its_complaints_cannot_be_written() {
    let (lone, programs) = (Lone::new(), programs());
    let file = lone.dir.path().join("file").display().to_string();
    fs::write(&file, "a file").expect("writes");
    let net = lone.net().map(str::to_owned).to_vec();
    let words = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let cases: Vec<(&str, Vec<String>, i32)> = vec![
        ("upaxos-node", words("--nonsense"), 2),
        ("upaxos-node", words("-i 0"), 2),
        ("upaxos-node", [net.clone(), words("-n 1 -i 0 --dir"), vec![file.clone()]].concat(), 1),
        ("upaxos-node", words("log /nonexistent"), 1),
        ("upaxos-node", words("check-script /nonexistent"), 1),
        ("upaxos-node", words("lab /nonexistent"), 2),
        ("upaxos-node", words("sim --seeds 5..5"), 2),
        ("upaxos-node", words("bench --dir /nonexistent"), 1),
        ("upaxos-send", words("--nonsense"), 2),
        ("upaxos-send", [net.clone(), words("--wait nonsense")].concat(), 2),
        ("upaxos-send", [net.clone(), words("--wait --json nonsense")].concat(), 2),
        ("upaxos-send", [net.clone(), words("--wait --timeout 10ms Request 0 x")].concat(), 3),
        ("upaxos-repl", words("--nonsense"), 2),
        ("upaxos-repl", [net.clone(), words("-e nonsense")].concat(), 2),
        ("upaxos-repl", [net.clone(), words("--json -e nonsense")].concat(), 2),
        ("upaxos-repl", [net.clone(), words("/nonexistent")].concat(), 1),
    ];
    for (program, args, status) in cases {
        let path = programs.join(program);
        for (name, mut command, stderr) in [
            ("full", plain(&path), Stdio::from(full())),
            ("gone", plain(&path), Stdio::from(gone())),
            ("closed", closing(&path, "2"), Stdio::inherit()),
        ] {
            command.args(&args).stdout(Stdio::null()).stderr(stderr);
            assert_eq!(ended(command).status.code(), Some(status), "{name}: {program} {}", args.join(" "));
        }
    }
}

/// The output of `upaxos-node log` for this directory.
fn printed_log(dir: &Path, options: &[&str]) -> Output {
    plain(NODE).arg("log").args(options).arg(dir).output().expect("the program runs")
}

#[test]
fn the_log_of_a_running_node_is_read_by_a_user_who_may_not_write_there() {
    let (lone, programs) = (Lone::new(), programs());
    let _node = lone.start_logged(&[]);
    lone.write(&programs, ["one".to_string()].into_iter());
    // The files belong to another user: all are readable, and none is writable.
    let folder = lone.dir.path();
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    mode(folder, 0o755);
    for entry in fs::read_dir(lone.data()).expect("lists") {
        mode(&entry.expect("lists").path(), 0o444);
    }
    mode(&lone.data(), 0o555);
    let program = folder.join("upaxos-node");
    fs::copy(NODE, &program).expect("copies");
    let mut command = plain(&program);
    command.arg("log").arg(lone.data()).current_dir("/");
    if nix::unistd::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    let output = command.output().expect("it runs");
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && printed.contains(" one\n"), "{printed}{said}");
    mode(&lone.data(), 0o755);
}

#[test]
fn what_the_log_prints_of_any_bytes_the_prompt_reads_back() {
    let (lone, programs) = (Lone::new(), programs());
    let _node = lone.start_logged(&[]);
    let repl = |typed: &[u8]| {
        let mut command = plain(programs.join("upaxos-repl"));
        command.args(lone.net()).arg("-e").arg(OsStr::from_bytes(typed));
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    repl(br#"Request 0 "a\xff\xfe\n\t\x1b[1m \\ \" caf\xc3\xa9""#);
    repl(b"Request 0 caf\xc3\xa9 \\ \"plain\"");
    // The record of learning is synced with the next records.
    repl(b"Request 0 end");
    let learned = |instance: u32| {
        let output = printed_log(&lone.data(), &[]);
        let printed = String::from_utf8(output.stdout).expect("whatever is in it, it is printed as text");
        let line = printed.lines().find_map(|line| line.strip_prefix(&format!("0: learn {instance} ")));
        line.unwrap_or_else(|| panic!("{printed}")).to_owned()
    };
    assert_eq!(learned(1), r#""a\xff\xfe\n\t\x1b[1m \\ \" café""#);
    assert_eq!(learned(2), r#"café \ "plain""#);
    (1..=2).for_each(|instance| repl(format!("Request 0 {}", learned(instance)).as_bytes()));
    repl(b"Request 0 end");
    (1..=2).for_each(|instance| assert_eq!(learned(instance + 3), learned(instance)));
}

#[test]
fn of_a_damaged_log_all_before_the_damage_is_printed_and_then_the_error_with_status_1() {
    let (lone, programs) = (Lone::new(), programs());
    let mut node = lone.start_logged(&[]);
    lone.write(&programs, (1..=20).map(|number| format!("value {number}")));
    node.signal(Signal::SIGTERM);
    node.wait();
    let file = lone.data().join("00000001.log");
    let bytes = fs::read(&file).expect("reads");
    let damage = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        fs::write(&file, bytes).expect("writes");
    };
    let at = bytes.windows(10).position(|part| part == b"chosen 20 ").or_else(|| {
        // The node may learn several instances with one record.
        bytes.windows(7).rposition(|part| part == b"chosen ")
    });
    damage(at.expect("it learned 20"));
    for options in [&[][..], &["--learned"]] {
        let output = printed_log(&lone.data(), options);
        let (printed, said) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(printed.contains(" value 1\n"), "{printed}{said}");
        assert!(said.contains("00000001.log at byte "), "{said}");
        assert_eq!(output.status.code(), Some(1));
    }
}
