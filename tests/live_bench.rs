//! Claims about `upaxos-node bench`: it measures real groups, checks their logs, and leaves nothing behind.

mod live;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use upaxos_testbed::hosts::{Host, Hosts};

use live::group::{Group, NODE};
use live::or_skip;

fn bench(dir: &Path, flags: &str) -> Output {
    let mut command = Command::new(NODE);
    command.args(["bench", "--dir"]).arg(dir).args(flags.split(' '));
    command.output().expect("the program starts")
}

/// The reports of a successful bench. Its directory is empty afterwards.
fn reports(flags: &str) -> Vec<Value> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let output = bench(dir.path(), &format!("--json {flags}"));
    let (said, complaints) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "bench {flags} failed: {complaints}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("it is there").count(), 0, "something is left behind");
    said.lines().map(|line| serde_json::from_str(line).expect("an object per line")).collect()
}

fn number(report: &Value, name: &str) -> f64 {
    report[name].as_f64().unwrap_or_else(|| panic!("{name} is no number in {report}"))
}

/// Whether hosts with separate networks are possible here. If not, the reason is printed.
fn has_raw_hosts() -> bool {
    or_skip(Hosts::raw_only(1)).is_some()
}

#[test]
fn every_combination_is_a_run_that_is_judged() {
    let reports = reports("--seconds 1 --on udp --size 16,256 --outstanding 1,64 --clients 5");
    assert_eq!(reports.len(), 4);
    for report in &reports {
        assert!(number(report, "ok") > 0.0 && number(report, "judged") >= number(report, "ok"), "{report}");
        assert!(number(report, "p50_us") <= number(report, "p99_us"), "{report}");
        assert!(number(report, "cpu_s_per_1000") > 0.0 && number(report, "peak_mib") > 1.0, "{report}");
        assert!(number(report, "syncs_per_write") > 0.0, "{report}");
    }
    let sizes: Vec<_> = reports.iter().map(|report| number(report, "size")).collect();
    assert_eq!(sizes, [16.0, 16.0, 256.0, 256.0]);
}

#[test]
fn a_killed_leader_shows_as_a_gap_and_a_restart_is_timed() {
    if !has_raw_hosts() {
        return;
    }
    let reports = reports("--outstanding 16 --kill-leader --restart --seconds 4");
    let report = &reports[0];
    assert!(report["killed"].is_u64(), "{report}");
    // A leader is replaced after four missing beats of 100 ms. When it is killed, the first of these is not due
    // yet.
    assert!(number(report, "gap_us") > 200_000.0, "no node notices a crash so soon: {report}");
    assert!(number(report, "restart_ms") > 0.0 && number(report, "packets_per_write") > 0.0, "{report}");
}

#[test]
fn reads_of_every_kind_see_what_was_written_last() {
    for kind in ["fast", "safe", "history"] {
        let reports = reports(&format!("--seconds 1 --on udp --size 16 --outstanding 16 --reads {kind}"));
        assert_eq!(reports[0]["reads"], kind);
        assert!(number(&reports[0], "ok") > 0.0, "{:?}", reports[0]);
    }
}

#[test]
fn overload_is_measured_beside_the_peak() {
    let reports = reports("--seconds 1 --on udp --size 16 --outstanding 64 --overload 3");
    assert_eq!(reports.len(), 2);
    let (rate, peak) = (number(&reports[1], "rate"), number(&reports[0], "per_second"));
    assert!((rate / (3.0 * peak) - 1.0).abs() < 1e-9, "{rate} is three times {peak}, as it was printed");
    assert!(number(&reports[1], "of_peak") > 0.0 && reports[0]["of_peak"].is_null());
}

#[test]
fn a_group_that_runs_can_be_loaded_and_is_asked_again() {
    let Some(hosts) = or_skip(Hosts::raw_only(3)) else { return };
    let group = Group::start(hosts);
    for flags in [&[][..], &["--reads", "safe"]] {
        let mut command = group.hosts.command(Host::Client, NODE);
        command.args(["bench", "--attach", "--json", "--seconds", "1", "--outstanding", "32"]).args(flags);
        let output = command.args(group.hosts.args()).output().expect("the program starts");
        assert!(output.status.success(), "{flags:?}: {}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).expect("an object");
        assert!(number(&report, "ok") > 0.0 && number(&report, "judged") > 0.0, "{report}");
        assert_eq!(report["nodes"], 0, "the bench does not know the group's size");
    }
}

#[test]
fn what_cannot_be_measured_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    for (flags, reason) in [
        ("--size 70000", "60000"),
        ("--outstanding 0", "outstanding"),
        ("--attach --kill-leader", "--kill-leader"),
        ("--reads slow", "history"),
        ("--beat 1h", "10s"),
        ("--overload 0", "above 0"),
    ] {
        let output = bench(dir.path(), flags);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(reason), "{flags}: {said}");
    }
    let output = bench(&dir.path().join("nowhere"), "--on udp");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("cannot use"), "{said}");
}
