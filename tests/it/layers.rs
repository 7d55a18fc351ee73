//! The rooms stand in one order, and each uses only those below it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// From top to bottom. Rooms of one line are neighbours, and may use each other.
const ORDER: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["demo"],
    &["trial"],
    &["doctor"],
    &["running"],
    &["admin"],
    &["server"],
    &["certificates"],
    &["pipeline"],
    &["reload"],
    &["snapshot"],
    &["acme"],
    &["telemetry"],
    &["upstream"],
    &["credentials"],
    &["limits"],
    &["policy"],
    &["entra"],
    &["seal"],
    &["canonical"],
    &["files"],
    &["net"],
    &["upgrade"],
    &["http1"],
    &["denial"],
    &["metric"],
    &["trace"],
    &["body"],
    &["ids"],
    &[
        "drain",
        "fingerprint",
        "secret",
        "clock",
        "token",
        "client_certificate",
    ],
];

fn rank(room: &str) -> Option<usize> {
    ORDER.iter().position(|rooms| rooms.contains(&room))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The room of a file: the first part of its path below gateway/.
fn room(path: &Path, root: &Path) -> String {
    let below = path.strip_prefix(root).expect("below gateway/");
    let first = below.iter().next().expect("a name").to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The rooms that a source names as `crate::room` or in `crate::{room, …}`, tests left out: they may
/// use the whole world.
fn uses(source: &str) -> Vec<String> {
    let code = source
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    let mut rooms = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let word = |text: &str| -> String {
            text.chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect()
        };
        match rest.strip_prefix('{') {
            None => rooms.push(word(rest)),
            Some(group) => {
                let (mut depth, mut start) = (0, true);
                for (at, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && c.is_alphabetic() => {
                            rooms.push(word(&group[at..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    rooms
}

#[test]
fn a_room_uses_only_rooms_below_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut faults = BTreeMap::new();
    for file in files.iter().filter(|file| !file.ends_with("lib.rs")) {
        if file.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        let user = room(file, &root);
        let Some(user_rank) = rank(&user) else {
            faults.insert(user.clone(), format!("{user} has no place in the order"));
            continue;
        };
        for used in uses(&fs::read_to_string(file).expect("a source")) {
            match rank(&used) {
                None => {
                    faults.insert(used.clone(), format!("{used} has no place in the order"));
                }
                Some(rank) if rank < user_rank => {
                    faults.insert(
                        format!("{user} {used}"),
                        format!("{user} uses {used}, which is above it ({})", file.display()),
                    );
                }
                Some(_) => {}
            }
        }
    }
    assert!(
        faults.is_empty(),
        "{:#?}",
        faults.values().collect::<Vec<_>>()
    );
}

#[test]
fn the_reader_of_paths_sees_single_and_grouped_uses() {
    let source =
        "use crate::{files::{self, A}, policy};\nuse crate::net::tls;\nlet x = crate::ids::y();";
    assert_eq!(uses(source), ["files", "policy", "net", "ids"]);
}
