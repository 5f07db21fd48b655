//! Claims about the dissector for Wireshark. `tshark` runs it on a capture that the test writes. Without `tshark`
//! the tests are skipped. Where CI demands that all tests run, they fail instead.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use upaxos_core::wire::part::Piece;
use upaxos_core::wire::{self, Dialect};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/wireshark/upaxos.lua");

/// The fields that the tests read of each datagram.
const FIELDS: [&str; 9] =
    ["malformed", "verb", "from", "instance", "seq", "value", "text", "missing", "expert.malformed"];

/// One dissected datagram: the text of each of [`FIELDS`].
#[derive(Debug)]
struct Dissected {
    fields: Vec<String>,
}

impl Dissected {
    fn field(&self, name: &str) -> &str {
        &self.fields[FIELDS.iter().position(|field| *field == name).expect("it is read")]
    }

    fn is_malformed(&self) -> bool {
        let is_marked = !self.field("malformed").is_empty();
        assert_eq!(is_marked, !self.field("expert.malformed").is_empty(), "both fields agree: {self:?}");
        is_marked
    }
}

/// A capture file (pcap, raw IP) of these datagrams.
fn capture(datagrams: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    file.extend(words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 101]));
    for datagram in datagrams {
        let length = 20 + datagram.len() as u32;
        file.extend(words(&[0, 0, length, length]));
        let [high, low] = (length as u16).to_be_bytes();
        file.extend([0x45, 0, high, low, 0, 0, 0, 0, 64, 253, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
        file.extend(datagram);
    }
    file
}

/// The output of `tshark` for these datagrams. Returns `None` without `tshark`.
fn dissect(datagrams: &[Vec<u8>]) -> Option<Vec<Dissected>> {
    if Command::new("tshark").arg("--version").output().is_err() {
        let is_demanded = std::env::var("UPAXOS_REQUIRE").is_ok_and(|what| what == "raw");
        assert!(!is_demanded, "UPAXOS_REQUIRE=raw, but there is no tshark");
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let line = format!("skipped: {test}: there is no tshark\n");
        std::io::stderr().write_all(line.as_bytes()).expect("standard error can be written");
        if let Some(path) = std::env::var_os("UPAXOS_SKIPS") {
            let mut file = fs::File::options().append(true).open(path).expect("the file opens");
            file.write_all(line.as_bytes()).expect("the file can be written");
        }
        return None;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path: PathBuf = folder.path().join("capture.pcap");
    fs::write(&path, capture(datagrams)).expect("writes");
    let run = |args: &[&str]| {
        let mut command = Command::new("tshark");
        command.arg("-X").arg(format!("lua_script:{SCRIPT}")).arg("-r").arg(&path).args(args);
        // With its own configuration, because the user may have another dissector for this protocol.
        let output =
            command.env("HOME", folder.path()).env_remove("XDG_CONFIG_HOME").output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let names: Vec<_> = FIELDS.iter().map(|name| format!("upaxos.{name}")).collect();
    let mut args = vec!["-T", "fields", "-E", "separator=/t", "-E", "aggregator=|"];
    names.iter().for_each(|name| args.extend(["-e", name]));
    let shown = run(&args);
    let whole = run(&["-V"]);
    let errors: Vec<_> = whole.lines().filter(|line| line.contains("Lua Error")).collect();
    assert_eq!(errors, [""; 0], "the script fails");
    let dissected: Vec<_> = shown
        .lines()
        .map(|line| Dissected { fields: line.split('\t').map(str::to_owned).collect() })
        .collect();
    assert_eq!(dissected.len(), datagrams.len(), "a line for each datagram");
    Some(dissected)
}

/// Whether a node accepts every line of the datagram.
fn is_whole(datagram: &[u8]) -> bool {
    if Piece::parse(datagram).is_some() {
        return true;
    }
    match wire::open(datagram, Dialect::Extended) {
        Ok((_, mut lines)) => lines.all(|line| line.is_ok()),
        Err(_) => false,
    }
}

/// Every row of the table of the wire in `docs/protocol.md`: the form of the line, and its example.
fn rows() -> Vec<(String, String)> {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md"));
    let page = page.expect("it is there");
    let table = page.split_once("| line | says | example |\n").expect("the table is there").1;
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let between = |text: &str| text.split('`').nth(1).expect("a form, or an example").to_owned();
    let row = |row: &str| {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        (between(cells[0]), between(cells[cells.len() - 1]))
    };
    rows.map(row).collect()
}

/// A datagram that contains the example. A continuation needs a line before it, a part a head, a head a checksum, and
/// the checksum of the table just these lines.
fn with_context(line: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = line.iter().copied().take_while(u8::is_ascii_digit).collect();
    let mut datagram = match &line[digits.len()..] {
        [b'&', ..] => [b"2 Write 1 2 one\n", line].concat(),
        [b'S', b'u', b'm', ..] => return [b"For 5f3a9c01d2b4e6f8\nmembers\n", line].concat(),
        rest if rest.starts_with(b"Part ") => [b"For -\n", line].concat(),
        rest if rest.starts_with(b" Part ") => [&digits, b" From 7 -\n".as_slice(), line].concat(),
        _ => line.to_vec(),
    };
    wire::complete(&mut datagram);
    datagram
}

fn compare(datagrams: &[Vec<u8>]) {
    let Some(dissected) = dissect(datagrams) else { return };
    for (datagram, shown) in datagrams.iter().zip(dissected) {
        let text = String::from_utf8_lossy(datagram);
        assert_eq!(shown.is_malformed(), !is_whole(datagram), "{text:?}: {shown:?}");
    }
}

#[test]
fn the_dissector_shows_every_line_of_the_table_and_its_verb() {
    let rows = rows();
    assert!(rows.len() > 50);
    let datagrams: Vec<_> = rows.iter().map(|(_, example)| with_context(example.as_bytes())).collect();
    let Some(dissected) = dissect(&datagrams) else { return };
    for ((form, example), shown) in rows.iter().zip(dissected) {
        let words: Vec<_> = form.split(' ').collect();
        let verb = if words[0] == "S" { words[1] } else { words[0] };
        assert!(!shown.is_malformed(), "{example}: {shown:?}");
        assert!(shown.field("verb").split('|').any(|shown| shown == verb), "{example}: {shown:?}");
    }
}

#[test]
fn every_prefix_of_every_line_of_the_table_is_marked_just_where_nodes_drop_it() {
    let prefixes =
        |example: &str| (1..=example.len()).map(|end| example.as_bytes()[..end].to_vec()).collect::<Vec<_>>();
    let mut datagrams: Vec<_> = rows().iter().flat_map(|(_, example)| prefixes(example)).collect();
    datagrams.push(b"0 ".to_vec());
    compare(&datagrams.iter().map(|line| with_context(line)).collect::<Vec<_>>());
}

#[test]
fn every_wrong_field_and_every_surplus_one_is_marked_just_where_nodes_drop_it() {
    const WRONG: [&str; 16] = [
        "",
        "+1",
        "-1",
        "0x1",
        "1e3",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551616",
        "00000000000000000001",
        "000000000000000000001",
        "65535",
        "65536",
        "0",
        "-",
        "*",
        "1:2:3",
    ];
    let mut datagrams = Vec::new();
    for (_, example) in rows() {
        let fields: Vec<_> = example.split(' ').collect();
        for at in 0..fields.len() {
            for wrong in WRONG {
                let mut fields = fields.clone();
                fields[at] = wrong;
                datagrams.push(with_context(fields.join(" ").as_bytes()));
            }
            let mut fields = fields.clone();
            fields.insert(at, "7");
            datagrams.push(with_context(fields.join(" ").as_bytes()));
        }
        for surplus in [" ", " 7", "  7", " force", " x\\y", " \u{fffd}"] {
            datagrams.push(with_context(format!("{example}{surplus}").as_bytes()));
        }
    }
    datagrams.retain(|datagram| !datagram.is_empty());
    compare(&datagrams);
}

#[test]
fn a_head_and_a_continuation_are_marked_where_they_do_not_belong() {
    let last = "9223372036854775807";
    let datagrams = [
        "2 From 77 -\n2 Write 1 2 one\n& two\n& three".to_owned(),
        "2 Gap 1 2\n2 From 77 -".into(),
        "2 Gap 1 2\nFor -".into(),
        "2 Gap 1 2\n& two".into(),
        "Submit 7 1 1 one\n& two\n\n& three\nx\n& four".into(),
        format!("2 Write {last} 2 one\n& two"),
        "2 Written 1 a\\x\n& b".into(),
    ];
    let datagrams = datagrams.map(|text| with_context(text.as_bytes()));
    compare(&datagrams);
    let Some(dissected) = dissect(&datagrams[..1]) else { return };
    assert_eq!(dissected[0].field("instance"), "1|2|3");
    assert_eq!(dissected[0].field("value"), "one|two|three");
}

#[test]
fn no_wrong_number_is_shown() {
    let datagrams =
        ["2 Gap 9223372036854775808 9223372036854775808", "2 Gap +7 9", "2 Gap 0x7 9", "70000 Gap 7 9"];
    let datagrams = datagrams.map(|line| line.as_bytes().to_vec());
    let Some(dissected) = dissect(&datagrams) else { return };
    for shown in &dissected {
        assert!(shown.is_malformed() && shown.field("instance").is_empty(), "{shown:?}");
    }
    assert_eq!(dissected[3].field("from"), "");
}

#[test]
fn bytes_that_are_no_text_do_no_harm() {
    let datagrams = [
        &b"2 Write 1 2 a\xff\xfe \xc3b"[..],
        b"\xff\xff",
        b"2 \xff 1",
        b"2 Write \xff 2 x",
        b"\0",
        b" ",
        b"\n",
    ];
    compare(&datagrams.map(<[u8]>::to_vec));
}

#[test]
fn parts_of_a_long_datagram_and_the_question_for_them_are_shown_and_not_looked_into() {
    let well = ["2 Part 91 2 3 2 Write 1 2 x\ny\nSu", "Part 91 1 2 ", "Missing 91 1,3-5,7", "Missing 91 1"];
    let ill = [
        "2 Part 91 0 3 x",
        "2 Part 91 4 3 x",
        "2 Part 91 1 3",
        "Part x 1 3 y",
        "Part 91 1 1 x",
        "Missing 91",
        "Missing 91 ",
        "Missing 91 3-1",
        "Missing 91 1,",
        "Missing 91 1 2",
        "Missing 91 0",
    ];
    let datagrams: Vec<_> = well.iter().chain(&ill).map(|line| with_context(line.as_bytes())).collect();
    let Some(dissected) = dissect(&datagrams) else { return };
    for (at, shown) in dissected.iter().enumerate() {
        assert_eq!(shown.is_malformed(), at >= well.len(), "{shown:?}");
    }
    assert_eq!(dissected[0].field("verb"), "From|Part|Sum");
    assert!(dissected[0].field("text").starts_with("2 Write 1 2 x"), "{:?}", dissected[0]);
    assert_eq!(dissected[0].field("instance"), "");
    assert_eq!(dissected[2].field("missing"), "1,3-5,7");
}

#[test]
fn a_datagram_with_a_wrong_checksum_or_none_is_marked_just_where_nodes_drop_it() {
    let right = with_context(b"2 From 77 -\n2 Chosen 3 3 65537");
    let flipped = (0..8 * right.len()).map(|bit| {
        let mut damaged = right.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        damaged
    });
    let cut = (1..right.len()).map(|end| right[..end].to_vec());
    let whole = std::iter::once(right.clone());
    let datagrams: Vec<_> = whole.chain(flipped).chain(cut).collect();
    compare(&datagrams);
    let part = with_context(b"2 Part 91 2 3 x");
    compare(&[part[..part.len() - 1].to_vec(), part]);
}
