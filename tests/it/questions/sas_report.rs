//! Who still calls with a key in the URL: `sas-report`.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{NAMES, PORTCULLIS, Place, READ};

const PORTAL: &str = "aaaaaaaa-0000-0000-0000-000000000001";
const STRANGER: &str = "aaaaaaaa-0000-0000-0000-000000000009";

/// The gateway's fingerprint key, and what a caller brought: as it stands in the URL, and its fingerprint by
/// `printf 'portcullis fingerprint\0SIGNATURE' | openssl dgst -sha256 -hmac KEY`.
const KEY: &str = "correct-horse-battery-staple-0001";
const SIGNATURE: &str = "wS%2Bq7Zx0%2FplantedSignature%3D";
const DECODED: &str = "wS+q7Zx0/plantedSignature=";
const FINGERPRINT: &str = "173acff493eb1a5c";
const OTHER: &str = "9f86d081884c7d65";

/// A line of the decision log, as the gateway writes it.
fn line(time: &str, route: Option<&str>, app: Option<&str>, sas: Option<Value>) -> String {
    let mut line = json!({
        "v": 1, "time": format!("2027-01-{time}.000Z"), "id": "0", "client": "203.0.113.9", "method": "POST",
        "host": "gateway.contoso.com", "path": "/x", "protocol": "HTTP/1.1", "decision": "allow",
        "reason": "rule", "policy": "p", "trust": "t",
    });
    if let Some(route) = route {
        line["route"] = route.into();
    }
    if let Some(app) = app {
        line["token"] = json!({ "tenant": "11111111-1111-1111-1111-111111111111", "app": app });
    }
    if let Some(sas) = sas {
        line["sas"] = sas;
    }
    format!("{line}\n")
}

fn sas(fingerprint: &str, agent: &str) -> Option<Value> {
    Some(json!({ "keys": ["sig"], "fingerprint": fingerprint, "agent": agent, "refused": false }))
}

/// A day of a small solution: also what README.md shows.
pub(crate) fn day() -> String {
    let (invite, guest) = (Some("create-invitation"), Some("read-guest"));
    let refused = json!({ "keys": ["code"], "agent": "python-requests/2.31", "refused": true });
    [
        line(
            "14T06:00:00",
            invite,
            Some(PORTAL),
            sas(FINGERPRINT, "axios/1.6.0"),
        ),
        line(
            "14T07:00:00",
            invite,
            Some(PORTAL),
            sas(FINGERPRINT, "axios/1.7.2"),
        ),
        line("14T08:00:00", invite, None, sas(OTHER, "curl/8.5.0")),
        line("14T09:00:00", invite, Some(PORTAL), None),
        line("14T10:00:00", invite, Some(PORTAL), None),
        line("14T08:30:00", guest, Some(PORTAL), None),
        line(
            "14T11:00:00",
            guest,
            Some(STRANGER),
            sas(FINGERPRINT, "curl/8.5.0"),
        ),
        line("14T12:00:00", None, None, Some(refused)),
        line("14T13:00:00", Some("health"), None, None),
    ]
    .concat()
}

fn place(log: &str) -> Place {
    let place = Place::new(READ);
    place.write("decisions.jsonl", log);
    place.write("leak", SIGNATURE);
    place.write("key", &format!("{KEY}\n"));
    place
}

#[test]
fn callers_keys_and_routes_are_told_with_the_most_requests_first() {
    let (said, code) = place(&day()).ask("sas-report decisions.jsonl");
    assert_eq!((said.as_str(), code), (TEXT, Some(0)));
}

const TEXT: &str = "\
9 requests, 5 with a key in the URL (1 refused for it), 2 different keys and 1 request without a fingerprint

COUNT  REFUSED  ROUTE              APP                                   AGENT            KEYS  FINGERPRINTS  FIRST                     LAST
2      0        create-invitation  aaaaaaaa-0000-0000-0000-000000000001  axios            sig   1             2027-01-14T06:00:00.000Z  2027-01-14T07:00:00.000Z
1      1        no route           none                                  python-requests  code  0             2027-01-14T12:00:00.000Z  2027-01-14T12:00:00.000Z
1      0        create-invitation  none                                  curl             sig   1             2027-01-14T08:00:00.000Z  2027-01-14T08:00:00.000Z
1      0        read-guest         aaaaaaaa-0000-0000-0000-000000000009  curl             sig   1             2027-01-14T11:00:00.000Z  2027-01-14T11:00:00.000Z

FINGERPRINT       COUNT  ROUTES                         APPS                                                                        LAST
173acff493eb1a5c  3      create-invitation, read-guest  aaaaaaaa-0000-0000-0000-000000000001, aaaaaaaa-0000-0000-0000-000000000009  2027-01-14T11:00:00.000Z
9f86d081884c7d65  1      create-invitation              none                                                                        2027-01-14T08:00:00.000Z

create-invitation: 5 requests, 3 with a key, the last at 2027-01-14T08:00:00.000Z; clean since then, until 2027-01-14T10:00:00.000Z
read-guest: 2 requests, 1 with a key, the last at 2027-01-14T11:00:00.000Z
health: 1 request from 2027-01-14T13:00:00.000Z to 2027-01-14T13:00:00.000Z, none with a key
";

#[test]
fn as_markdown_it_is_a_comment() {
    let (said, code) =
        place(&day()).ask("sas-report --format markdown --policies policies decisions.jsonl");
    assert_eq!((said.as_str(), code), (MARKDOWN, Some(0)));
}

const MARKDOWN: &str = "\
9 requests, 5 with a key in the URL (1 refused for it), 2 different keys and 1 request without a fingerprint

| COUNT | REFUSED | ROUTE | APP | AGENT | KEYS | FINGERPRINTS | FIRST | LAST |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
| 2 | 0 | create-invitation | portal | axios | sig | 1 | 2027-01-14T06:00:00.000Z | 2027-01-14T07:00:00.000Z |
| 1 | 1 | no route | none | python-requests | code | 0 | 2027-01-14T12:00:00.000Z | 2027-01-14T12:00:00.000Z |
| 1 | 0 | create-invitation | none | curl | sig | 1 | 2027-01-14T08:00:00.000Z | 2027-01-14T08:00:00.000Z |
| 1 | 0 | read-guest | aaaaaaaa-0000-0000-0000-000000000009 | curl | sig | 1 | 2027-01-14T11:00:00.000Z | 2027-01-14T11:00:00.000Z |

| FINGERPRINT | COUNT | ROUTES | APPS | LAST |
| --- | --- | --- | --- | --- |
| 173acff493eb1a5c | 3 | create-invitation, read-guest | portal, aaaaaaaa-0000-0000-0000-000000000009 | 2027-01-14T11:00:00.000Z |
| 9f86d081884c7d65 | 1 | create-invitation | none | 2027-01-14T08:00:00.000Z |

- create-invitation: 5 requests, 3 with a key, the last at 2027-01-14T08:00:00.000Z; clean since then, until 2027-01-14T10:00:00.000Z
- read-guest: 2 requests, 1 with a key, the last at 2027-01-14T11:00:00.000Z
- health: 1 request from 2027-01-14T13:00:00.000Z to 2027-01-14T13:00:00.000Z, none with a key
";

#[test]
fn as_json_it_is_whole() {
    let log =
        day() + "torn\n" + &line("14T14:00:00", None, None, None).replace("\"v\":1", "\"v\":2");
    let (said, code) =
        place(&log).ask("sas-report --format json --policies policies decisions.jsonl");
    let told: Value = serde_json::from_str(&said).expect("JSON");
    let portal = json!({ "id": PORTAL, "name": "portal" });
    let stranger = json!({ "id": STRANGER, "name": null });
    let expected = json!({
        "requests": 9, "withKeys": 5, "refused": 1, "withoutFingerprint": 1, "unreadable": 1, "unknownVersion": 1,
        "callers": [
            {
                "route": "create-invitation", "app": portal, "agent": "axios", "count": 2, "refused": 0,
                "keys": ["sig"], "fingerprints": 1,
                "first": "2027-01-14T06:00:00.000Z", "last": "2027-01-14T07:00:00.000Z",
            },
            {
                "route": null, "app": null, "agent": "python-requests", "count": 1, "refused": 1,
                "keys": ["code"], "fingerprints": 0,
                "first": "2027-01-14T12:00:00.000Z", "last": "2027-01-14T12:00:00.000Z",
            },
            {
                "route": "create-invitation", "app": null, "agent": "curl", "count": 1, "refused": 0,
                "keys": ["sig"], "fingerprints": 1,
                "first": "2027-01-14T08:00:00.000Z", "last": "2027-01-14T08:00:00.000Z",
            },
            {
                "route": "read-guest", "app": stranger, "agent": "curl", "count": 1, "refused": 0,
                "keys": ["sig"], "fingerprints": 1,
                "first": "2027-01-14T11:00:00.000Z", "last": "2027-01-14T11:00:00.000Z",
            },
        ],
        "fingerprints": [
            {
                "fingerprint": FINGERPRINT, "count": 3, "routes": ["create-invitation", "read-guest"],
                "apps": [portal, stranger], "last": "2027-01-14T11:00:00.000Z",
            },
            {
                "fingerprint": OTHER, "count": 1, "routes": ["create-invitation"], "apps": [null],
                "last": "2027-01-14T08:00:00.000Z",
            },
        ],
        "routes": [
            {
                "route": "create-invitation", "requests": 5, "withKeys": 3,
                "first": "2027-01-14T06:00:00.000Z", "last": "2027-01-14T10:00:00.000Z",
                "lastWithKey": "2027-01-14T08:00:00.000Z", "cleanSince": "2027-01-14T08:00:00.000Z",
            },
            {
                "route": "read-guest", "requests": 2, "withKeys": 1,
                "first": "2027-01-14T08:30:00.000Z", "last": "2027-01-14T11:00:00.000Z",
                "lastWithKey": "2027-01-14T11:00:00.000Z", "cleanSince": null,
            },
            {
                "route": "health", "requests": 1, "withKeys": 0,
                "first": "2027-01-14T13:00:00.000Z", "last": "2027-01-14T13:00:00.000Z",
                "lastWithKey": null, "cleanSince": null,
            },
        ],
    });
    assert_eq!((told, code), (expected, Some(0)));
}

#[test]
fn a_log_in_any_order_and_in_several_files_gives_one_report() {
    let place = place("");
    let day = day();
    let lines: Vec<&str> = day.split_inclusive('\n').collect();
    let mut backwards = lines.clone();
    backwards.reverse();
    place.write("late.jsonl", &backwards[..4].concat());
    place.write("early.jsonl", &backwards[4..].concat());
    let (said, code) = place.ask("sas-report late.jsonl decisions.jsonl early.jsonl");
    assert_eq!((said.as_str(), code), (TEXT, Some(0)));
    let mut child = Command::new(PORTCULLIS)
        .current_dir(place.0.path())
        .args(["sas-report", "late.jsonl", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let early = fs::read(place.0.path().join("early.jsonl")).expect("a log");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(&early).expect("written");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), TEXT);
}

#[test]
fn lines_that_cannot_be_read_are_counted_and_one_that_is_not_finished_is_no_fault() {
    let good = line("14T06:00:00", Some("read"), None, None);
    let key = |sas: Value| line("14T06:00:00", Some("read"), None, Some(sas));
    let unfinished = &good[..good.len() / 2];
    let first = "1 request, 0 with a key in the URL (0 refused for it), 0 different keys\n";
    let torn = "1 line not read: torn or no decision\n";
    for (name, strange, told) in [
        ("nothing strange", String::new(), ""),
        ("an empty line", "\n".to_owned(), ""),
        ("unfinished, at the end", unfinished.to_owned(), ""),
        ("unfinished, and another", format!("{unfinished}\n"), torn),
        ("no JSON", "x\n".to_owned(), torn),
        ("no decision", "{\"v\":1}\n".to_owned(), torn),
        ("no time", good.replace("2027-01-14T", "soon"), torn),
        (
            "another version",
            good.replace("\"v\":1", "\"v\":7").repeat(2),
            "2 lines not read: of a version that this one does not know\n",
        ),
        (
            "a signature where its fingerprint belongs",
            key(json!({ "keys": ["sig"], "fingerprint": DECODED, "refused": false })),
            torn,
        ),
    ] {
        let (said, code) = place(&(good.clone() + &strange)).ask("sas-report decisions.jsonl");
        let route = "\nread: 1 request from 2027-01-14T06:00:00.000Z to 2027-01-14T06:00:00.000Z, none with a key\n";
        assert_eq!(
            (said, code),
            (format!("{first}{told}{route}"), Some(0)),
            "{name}"
        );
    }
}

#[test]
fn what_a_caller_calls_itself_steers_no_terminal_and_breaks_no_table() {
    let hostile = "a\u{1b}[2J\u{9b}31m\u{202e}|<b>@all`\nx/1";
    let log = line("14T06:00:00", Some("read"), None, sas(OTHER, hostile));
    for (form, expected) in [
        ("text", "  a [2J 31m\\u202e|<b>@all`  sig  "),
        (
            "markdown",
            "| a \\[2J 31m\\u202e\\|&lt;b&gt;&#64;all\\` | sig |",
        ),
        ("json", r#""agent": "a\u001b[2J\u009b31m\u202e|<b>@all`""#),
    ] {
        let (said, _) = place(&log).ask(&format!("sas-report --format {form} decisions.jsonl"));
        assert!(said.contains(expected), "{form}: {said}");
        let steers = |letter: char| (letter.is_control() && letter != '\n') || letter == '\u{202e}';
        assert!(!said.contains(steers), "{form}: {said:?}");
    }
    let long = line(
        "14T06:00:00",
        Some("read"),
        None,
        sas(OTHER, &"x".repeat(1000)),
    );
    let (said, _) = place(&long).ask("sas-report --format json decisions.jsonl");
    let told: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(told["callers"][0]["agent"], "x".repeat(64));
}

#[test]
fn a_signature_that_leaked_is_traced_and_not_printed() {
    let url = format!("https://gateway.contoso.com/x?api-version=1&sp=r&sig={SIGNATURE}&sv=1.0\n");
    for (name, leak) in [
        ("alone", SIGNATURE),
        ("decoded", DECODED),
        ("with its URL", &url),
    ] {
        let place = place(&day());
        place.write("leak", leak);
        for (form, expected) in [
            ("text", TRACE_TEXT),
            ("markdown", TRACE_MARKDOWN),
            ("json", TRACE_JSON),
        ] {
            let output = place.run(&format!(
                "sas-report --trace leak --key key --policies policies --format {form} decisions.jsonl"
            ));
            let said = String::from_utf8_lossy(&output.stdout);
            assert_eq!(
                (&*said, output.status.code()),
                (expected, Some(0)),
                "{name}"
            );
            assert_eq!(output.stderr, b"", "{name}");
        }
    }
    for text in [TRACE_TEXT, TRACE_MARKDOWN, TRACE_JSON] {
        assert!(
            !text.contains("planted") && !text.contains("horse"),
            "{text}"
        );
    }
}

const TRACE_TEXT: &str = "\
fingerprint 173acff493eb1a5c: 3 requests, 0 refused for it

COUNT  REFUSED  ROUTE              APP                                   AGENT  KEYS  FINGERPRINTS  FIRST                     LAST
2      0        create-invitation  portal                                axios  sig   1             2027-01-14T06:00:00.000Z  2027-01-14T07:00:00.000Z
1      0        read-guest         aaaaaaaa-0000-0000-0000-000000000009  curl   sig   1             2027-01-14T11:00:00.000Z  2027-01-14T11:00:00.000Z
";

const TRACE_MARKDOWN: &str = "\
fingerprint 173acff493eb1a5c: 3 requests, 0 refused for it

| COUNT | REFUSED | ROUTE | APP | AGENT | KEYS | FINGERPRINTS | FIRST | LAST |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
| 2 | 0 | create-invitation | portal | axios | sig | 1 | 2027-01-14T06:00:00.000Z | 2027-01-14T07:00:00.000Z |
| 1 | 0 | read-guest | aaaaaaaa-0000-0000-0000-000000000009 | curl | sig | 1 | 2027-01-14T11:00:00.000Z | 2027-01-14T11:00:00.000Z |
";

const TRACE_JSON: &str = r#"{
  "callers": [
    {
      "agent": "axios",
      "app": {
        "id": "aaaaaaaa-0000-0000-0000-000000000001",
        "name": "portal"
      },
      "count": 2,
      "fingerprints": 1,
      "first": "2027-01-14T06:00:00.000Z",
      "keys": [
        "sig"
      ],
      "last": "2027-01-14T07:00:00.000Z",
      "refused": 0,
      "route": "create-invitation"
    },
    {
      "agent": "curl",
      "app": {
        "id": "aaaaaaaa-0000-0000-0000-000000000009",
        "name": null
      },
      "count": 1,
      "fingerprints": 1,
      "first": "2027-01-14T11:00:00.000Z",
      "keys": [
        "sig"
      ],
      "last": "2027-01-14T11:00:00.000Z",
      "refused": 0,
      "route": "read-guest"
    }
  ],
  "fingerprint": "173acff493eb1a5c",
  "refused": 0,
  "requests": 3,
  "unknownVersion": 0,
  "unreadable": 0
}
"#;

#[test]
fn a_signature_that_nobody_used_is_not_said_to_be_unused_for_sure() {
    let place = place(&day());
    place.write("leak", "another");
    let (said, code) = place.ask("sas-report --trace leak --key key --fail-if-any decisions.jsonl");
    let (fingerprint, rest) = said.split_once(": ").expect("a fingerprint");
    assert_eq!(fingerprint.len(), "fingerprint 0123456789abcdef".len());
    assert_eq!(
        (rest, code),
        (
            "no request brought it, unless the gateway had another fingerprint key then\n",
            Some(0)
        )
    );
}

#[test]
fn the_exit_code_says_whether_anybody_called_with_a_key_if_asked() {
    let clean = line("14T06:00:00", Some("read"), None, None);
    for (name, log, arguments, code) in [
        ("a key, not asked", day(), "", 0),
        ("a key", day(), " --fail-if-any", 1),
        ("none", clean, " --fail-if-any", 0),
        ("no request", String::new(), " --fail-if-any", 0),
        (
            "the leaked one",
            day(),
            " --fail-if-any --trace leak --key key",
            1,
        ),
    ] {
        let (_, found) = place(&log).ask(&format!("sas-report{arguments} decisions.jsonl"));
        assert_eq!(found, Some(code), "{name}");
    }
}

#[test]
fn wrong_use_ends_with_2_and_a_file_that_cannot_be_read_with_1_and_no_secret_is_in_what_is_said() {
    let url = format!("https://h/p?sig={SIGNATURE}");
    let place = place(&day());
    place.write("short", &KEY[..31]);
    place.write("two", &format!("{DECODED}\n{DECODED}\n"));
    place.write("no-key-url", "https://h/plantedSignature?a=b");
    place.write("no-log", &format!("{NAMES}\n"));
    fs::write(place.0.path().join("no-text"), b"plantedSignature\xff").expect("written");
    for (arguments, code, expected) in [
        ("", 2, "<FILE>"),
        ("--trace leak decisions.jsonl", 2, "--key"),
        ("--key key decisions.jsonl", 2, "--trace"),
        ("--format xml decisions.jsonl", 2, "xml"),
        ("--policies nowhere decisions.jsonl", 2, "`--policies`"),
        ("no-log", 2, "no-log: none of its lines is a decision"),
        ("- -", 2, "read only once"),
        ("--trace - --key key -", 2, "read only once"),
        (
            "--trace leak --key short decisions.jsonl",
            2,
            "the file of --key: the fingerprint key has fewer than 32",
        ),
        (
            "--trace two --key key decisions.jsonl",
            2,
            "the file of --trace: it must hold one",
        ),
        (
            "--trace no-key-url --key key decisions.jsonl",
            2,
            "neither `sig` nor `code`",
        ),
        (
            "--trace no-text --key key decisions.jsonl",
            1,
            "the file of --trace: ",
        ),
        (
            &format!("--trace {url} --key key decisions.jsonl"),
            1,
            "the file of --trace: No such file",
        ),
        (
            &format!("--trace leak --key {KEY} decisions.jsonl"),
            1,
            "the file of --key: No such file",
        ),
        (
            "decisions.jsonl nowhere.jsonl",
            1,
            "nowhere.jsonl: No such file",
        ),
        ("policies", 1, "policies: "),
    ] {
        let output = match arguments {
            "" => place.run("sas-report"),
            _ => place.run(&format!("sas-report {arguments}")),
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {said}");
        assert!(said.contains(expected), "{arguments}: {said}");
        assert!(
            !said.contains("planted") && !said.contains("horse"),
            "{said}"
        );
        assert_eq!(output.stdout, b"", "{arguments}");
    }
}
