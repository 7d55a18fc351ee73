//! The two scripts that Redis runs, their arguments and their answers.

use redis::{Cmd, Script, Value};

use super::bucket::{Rate, SHARE};

/// A script as its text, and as the hash that names it.
pub(super) struct Text {
    source: &'static str,
    hash: String,
}

impl Text {
    fn new(source: &'static str) -> Self {
        let hash = Script::new(source).get_hash().to_owned();
        Self { source, hash }
    }

    /// A call by the hash, or by the text: that teaches it to a server that does not know it.
    fn call(&self, by: By) -> Cmd {
        match by {
            By::Hash => arguments(redis::cmd("EVALSHA"), &self.hash),
            By::Text => arguments(redis::cmd("EVAL"), self.source),
        }
    }
}

fn arguments(mut command: Cmd, script: &str) -> Cmd {
    command.arg(script);
    command
}

/// How a script is named in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Hash,
    Text,
}

/// The scripts, and the keys that they use beside a meter's: of one hash tag, so that a cluster keeps them in one
/// place.
pub(super) struct Scripts {
    beat: Text,
    ask: Text,
    prefix: String,
    group: String,
    recalls: String,
}

/// What the keys of all meters begin with.
pub(super) fn meters(prefix: &str) -> String {
    format!("{{{prefix}}}:k:")
}

/// A script that tries what the others do, and the key that it does it to.
pub(super) struct Probe {
    text: Text,
    key: String,
}

impl Probe {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            text: Text::new(include_str!("probe.lua")),
            key: format!("{{{prefix}}}:probe"),
        }
    }

    pub(super) fn call(&self, by: By) -> Cmd {
        let mut command = self.text.call(by);
        command.arg(1).arg(&self.key);
        command
    }
}

/// What a sign of life is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Join,
    Beat,
    Leave,
}

/// What a replica says and asks of one meter. It stays as it is until it is answered, however often it is sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ask {
    /// Rises with every question of the replica.
    pub(super) seq: u64,
    /// Units to lease.
    pub(super) want: u64,
    /// Units that the replica goes on keeping back until it is answered.
    pub(super) keep: u64,
    /// Whether it may be told to keep back more.
    pub(super) stand: bool,
    /// Units that it admitted without asking.
    pub(super) debt: u64,
    /// Units of its lease that it gives back.
    pub(super) back: u64,
}

/// What a replica remembers of a meter, for when the store does not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Memory {
    pub(super) level: f64,
    /// It was seen before the store lost everything.
    pub(super) lost: bool,
}

impl Scripts {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            beat: Text::new(concat!(include_str!("group.lua"), include_str!("beat.lua"))),
            ask: Text::new(concat!(include_str!("group.lua"), include_str!("ask.lua"))),
            prefix: meters(prefix),
            group: format!("{{{prefix}}}:group"),
            recalls: format!("{{{prefix}}}:recalls"),
        }
    }

    /// A sign of life. `known` is the epoch that the replica knows, `others` whom it knew in it.
    pub(super) fn beat(
        &self,
        by: By,
        id: &str,
        sign: Sign,
        known: &str,
        fresh: &str,
        others: &[String],
    ) -> Cmd {
        let sign = match sign {
            Sign::Join => "join",
            Sign::Beat => "beat",
            Sign::Leave => "leave",
        };
        let mut command = self.beat.call(by);
        command.arg(2).arg(&self.group).arg(&self.recalls);
        command.arg(id).arg(sign).arg(known).arg(fresh).arg(others);
        command
    }

    /// A question about the meter `name`.
    pub(super) fn ask(
        &self,
        by: By,
        (id, epoch): (&str, &str),
        (name, rate): (&str, &Rate),
        ask: &Ask,
        memory: Memory,
    ) -> Cmd {
        let Ask {
            seq,
            want,
            keep,
            stand,
            debt,
            back,
        } = ask;
        let share = if *stand { SHARE } else { 0.0 };
        let ends = rate.ends.map_or(0, |ends| ends.as_millis() as u64);
        let mut command = self.ask.call(by);
        command.arg(3).arg(&self.group);
        command
            .arg(format!("{}{name}", self.prefix))
            .arg(&self.recalls);
        command.arg(id).arg(epoch).arg(seq).arg(want).arg(keep);
        command.arg(share).arg(debt).arg(back).arg(memory.level);
        command
            .arg(rate.most())
            .arg(rate.per_second.max(0.0) / 1000.0);
        command.arg(ends).arg(name).arg(u8::from(memory.lost));
        command
    }
}

/// Why less was granted than was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// There is no more, or it was not less.
    Plain,
    /// Others keep back more than is theirs. They hear of it at their next beat.
    Contended,
    /// The store lost everything, and not everybody has told yet what was before.
    Gathering,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// Another epoch has begun, or the replica was forgotten: it has to join anew.
    Stale,
    Told(Told),
}

/// What is told of a meter.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub(super) granted: u64,
    pub(super) reserve: u64,
    pub(super) level: f64,
    pub(super) free: f64,
    pub(super) replicas: u64,
    pub(super) why: Why,
}

impl Answer {
    /// Reads an answer. `None` if it is none.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let text = text(value)?;
        let mut words = text.split(' ');
        match words.next()? {
            "stale" => return Some(Self::Stale),
            "ok" => {}
            _ => return None,
        }
        let told = Told {
            granted: words.next()?.parse().ok()?,
            reserve: words.next()?.parse().ok()?,
            level: words.next()?.parse().ok()?,
            free: words.next()?.parse().ok()?,
            replicas: words.next()?.parse().ok()?,
            why: match words.nth(1)? {
                "-" => Why::Plain,
                "contended" => Why::Contended,
                "gathering" => Why::Gathering,
                _ => return None,
            },
        };
        Some(Self::Told(told))
    }
}

/// The answer to a sign of life.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Heard {
    Stale,
    /// To joining, the epoch.
    Joined(String),
    /// To a beat.
    Beat {
        /// How many others are not heard.
        away: u64,
        /// Who belongs to the group.
        ids: Vec<String>,
        /// Meters of which somebody wants more than the others let go, and what is left in them.
        recalls: Vec<(String, f64)>,
    },
}

impl Heard {
    /// Reads an answer. `None` if it is none.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let Value::Array(parts) = value else {
            return None;
        };
        let words: Vec<&str> = parts.iter().map(text).collect::<Option<_>>()?;
        match words.as_slice() {
            ["stale"] => Some(Self::Stale),
            ["ok", epoch] => Some(Self::Joined((*epoch).to_owned())),
            ["ok", away, ids, recalls @ ..] => Some(Self::Beat {
                away: away.parse().ok()?,
                ids: ids.split(' ').map(str::to_owned).collect(),
                recalls: recalls.chunks_exact(2).filter_map(recall).collect(),
            }),
            _ => None,
        }
    }
}

fn recall(pair: &[&str]) -> Option<(String, f64)> {
    let [name, rest] = pair else { return None };
    Some(((*name).to_owned(), rest.parse().ok()?))
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn an_answer_is_read_whole_or_not_at_all() {
        let told = |why| {
            Some(Answer::Told(Told {
                granted: 5,
                reserve: 3,
                level: 120.5,
                free: -1.25,
                replicas: 10,
                why,
            }))
        };
        for (text, read) in [
            ("ok 5 3 120.500000 -1.250000 10 2 -", told(Why::Plain)),
            ("ok 5 3 120.5 -1.25 10 0 contended", told(Why::Contended)),
            ("ok 5 3 120.5 -1.25 10 0 gathering", told(Why::Gathering)),
            ("stale", Some(Answer::Stale)),
            ("ok 5 3 120.5 -1.25 10 0 other", None),
            ("ok 5 3 120.5 -1.25 10", None),
            ("ok -5 3 120.5 -1.25 10 0 -", None),
            ("", None),
        ] {
            assert_eq!(Answer::read(&bulk(text)), read, "{text}");
        }
        assert_eq!(Answer::read(&Value::Nil), None);
    }

    #[test]
    fn a_sign_of_life_is_answered_with_who_is_there_and_what_is_wanted() {
        let read = |words: &[&str]| {
            let words = words.iter().map(|word| bulk(word)).collect();
            Heard::read(&Value::Array(words))
        };
        assert_eq!(read(&["stale"]), Some(Heard::Stale));
        assert_eq!(read(&["ok", "e1"]), Some(Heard::Joined("e1".to_owned())));
        assert_eq!(
            read(&["ok", "1", "a b", "10/0/0:with: a colon", "7"]),
            Some(Heard::Beat {
                away: 1,
                ids: vec!["a".to_owned(), "b".to_owned()],
                recalls: vec![("10/0/0:with: a colon".to_owned(), 7.0)],
            })
        );
        assert_eq!(read(&["ok", "many", "a"]), None);
        assert_eq!(Heard::read(&bulk("ok")), None);
    }

    #[test]
    fn all_keys_of_a_group_have_one_hash_tag() {
        let scripts = Scripts::new("eu");
        let Scripts {
            prefix,
            group,
            recalls,
            ..
        } = &scripts;
        for key in [prefix, group, recalls] {
            assert!(key.starts_with("{eu}:"), "{key}");
        }
    }
}
