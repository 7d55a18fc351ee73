//! `portcullis replay`: which recorded requests other policies would decide otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::policies::{self, Read};
use super::{Form, Unanswered, open, out};
use crate::clock::{Clock as _, SystemClock};
use crate::denial::Reason;
use crate::policy::Known;
use crate::policy::condition::Field;
use crate::trial::{Answer, Caller, Recorded, Unreadable, recorded};

/// The options of the command.
#[derive(Args)]
pub(super) struct Options {
    /// The policies to decide by: a folder, a file, or a gateway.yaml that names them.
    #[arg(long, value_name = "NEW")]
    policies: PathBuf,
    /// Decide as if the requests came now, not when they did: shows what rules that end will change.
    #[arg(long)]
    now: bool,
    /// How to write the answer.
    #[arg(long, value_enum, default_value_t = Form::Human)]
    format: Form,
    /// Decision logs; `-` for standard input.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// What becomes of a recorded request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Becomes {
    Refused,
    LetIn,
    CannotTell,
}

impl Becomes {
    const fn words(self) -> &'static str {
        match self {
            Self::Refused => "would be refused",
            Self::LetIn => "would be let in",
            Self::CannotTell => "cannot be told",
        }
    }
}

/// Requests that change alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    becomes: Becomes,
    app: String,
    route: String,
    was: String,
    is: String,
}

#[derive(Default)]
struct Members {
    count: u64,
    first: String,
    last: String,
    examples: Vec<String>,
}

/// Request IDs that are shown of each group.
const EXAMPLES: usize = 3;

#[derive(Default)]
struct Replayed {
    same: u64,
    unreadable: u64,
    unknown_version: u64,
    groups: BTreeMap<Group, Members>,
}

pub(super) fn replay(options: &Options) -> Result<ExitCode, Unanswered> {
    let read = policies::to_ask(&options.policies)?;
    let now = options.now.then(|| SystemClock.now().unix);
    let mut replayed = Replayed::default();
    for file in &options.files {
        replayed
            .file(file, &read, now)
            .map_err(|why| Unanswered::UsedWrongly(format!("{}: {why}", file.display())))?;
    }
    out(&match options.format {
        Form::Human => replayed.human(),
        Form::Json => format!("{:#}\n", replayed.json()),
    });
    Ok(ExitCode::from(u8::from(!replayed.groups.is_empty())))
}

/// What to say of a file that holds lines and no decision.
pub(super) const fn no_decision(why: Unreadable) -> &'static str {
    match why {
        Unreadable::Broken | Unreadable::Unfinished => {
            "none of its lines is a decision; name a file that the gateway wrote by \
             `telemetry.decisionLog` of gateway.yaml"
        }
        Unreadable::Version => "its decisions are of a version that this one does not know",
    }
}

impl Replayed {
    fn file(&mut self, file: &Path, read: &Read, now: Option<Duration>) -> Result<(), String> {
        let lines = open(file).map_err(|error| error.to_string())?;
        let (mut decisions, mut strange) = (0_u64, None);
        for line in recorded(lines) {
            match line.map_err(|error| error.to_string())? {
                Ok(recorded) => {
                    decisions += 1;
                    self.one(recorded, read, now);
                }
                Err(why) => {
                    strange = Some(why);
                    match why {
                        Unreadable::Unfinished => {}
                        Unreadable::Broken => self.unreadable += 1,
                        Unreadable::Version => self.unknown_version += 1,
                    }
                }
            }
        }
        match strange {
            Some(why) if decisions == 0 => Err(no_decision(why).to_owned()),
            _ => Ok(()),
        }
    }

    fn one(&mut self, mut recorded: Recorded, read: &Read, now: Option<Duration>) {
        if let Some(now) = now {
            at(&mut recorded, now);
        }
        let Some((becomes, is)) = becomes(&recorded, read) else {
            self.same += 1;
            return;
        };
        let group = Group {
            becomes,
            app: app(&recorded, read),
            route: recorded
                .route
                .clone()
                .unwrap_or_else(|| "no route".to_owned()),
            was: was(&recorded),
            is,
        };
        let members = self.groups.entry(group).or_default();
        members.count += 1;
        if members.first.is_empty() || recorded.time < members.first {
            members.first.clone_from(&recorded.time);
        }
        if recorded.time > members.last {
            members.last.clone_from(&recorded.time);
        }
        if members.examples.len() < EXAMPLES {
            members.examples.push(recorded.id);
        }
    }

    fn sum(&self, becomes: Becomes) -> u64 {
        let groups = self.groups.iter();
        let groups = groups.filter(|(group, _)| group.becomes == becomes);
        groups.map(|(_, members)| members.count).sum()
    }

    /// The largest groups first.
    fn sorted(&self) -> Vec<(&Group, &Members)> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(_, members)| std::cmp::Reverse(members.count));
        groups
    }

    /// For people. What a record says stays in its line.
    fn human(&self) -> String {
        let line = |text: &str| text.replace(char::is_control, " ");
        let mut text = format!(
            "{} decided as before, {} would be refused, {} would be let in, {} cannot be told\n",
            self.same,
            self.sum(Becomes::Refused),
            self.sum(Becomes::LetIn),
            self.sum(Becomes::CannotTell),
        );
        if self.unreadable > 0 {
            text += &format!("{} lines are torn or no decisions\n", self.unreadable);
        }
        if self.unknown_version > 0 {
            text += &format!(
                "{} lines are of a version that this one does not know\n",
                self.unknown_version
            );
        }
        for (group, members) in self.sorted() {
            text += &format!(
                "\n{} {}: {} on {}\n  was {}, {} {}\n  from {} to {}, for example {}\n",
                members.count,
                group.becomes.words(),
                line(&group.app),
                line(&group.route),
                line(&group.was),
                match group.becomes {
                    Becomes::CannotTell => "and now",
                    Becomes::Refused | Becomes::LetIn => "would be",
                },
                group.is,
                line(&members.first),
                line(&members.last),
                line(&members.examples.join(", ")),
            );
        }
        text
    }

    fn json(&self) -> Value {
        let groups = self.sorted().into_iter().map(|(group, members)| {
            json!({
                "becomes": match group.becomes {
                    Becomes::Refused => "refused",
                    Becomes::LetIn => "letIn",
                    Becomes::CannotTell => "cannotBeTold",
                },
                "app": group.app,
                "route": group.route,
                "was": group.was,
                "is": group.is,
                "count": members.count,
                "first": members.first,
                "last": members.last,
                "examples": members.examples,
            })
        });
        json!({
            "same": self.same,
            "refused": self.sum(Becomes::Refused),
            "letIn": self.sum(Becomes::LetIn),
            "cannotBeTold": self.sum(Becomes::CannotTell),
            "unreadable": self.unreadable + self.unknown_version,
            "groups": groups.collect::<Vec<_>>(),
        })
    }
}

/// Moves a request to another time, with a token that is as fresh then.
fn at(recorded: &mut Recorded, now: Duration) {
    recorded.question.now = now;
    if let Caller::Claims(claims) = &mut recorded.question.caller {
        claims.insert("nbf".to_owned(), now.as_secs().into());
        claims.insert("exp".to_owned(), now.as_secs().saturating_add(3600).into());
    }
}

/// What becomes of a request, and why. `None` if it is decided as before.
fn becomes(recorded: &Recorded, read: &Read) -> Option<(Becomes, String)> {
    if recorded.unopened {
        // No policy opens it either.
        return None;
    }
    let trial = |hopeful| {
        let mut known = recorded.known.clone();
        known.hopeful = hopeful;
        read.trial().knowing(known).ask(&recorded.question)
    };
    let (pessimist, optimist) = (trial(false), trial(true));
    if pessimist.lets_in() != optimist.lets_in() {
        let missing = not_recorded(&pessimist, &recorded.known);
        let why = format!("hangs on what was not recorded: {missing}");
        return Some((Becomes::CannotTell, why));
    }
    let asks_for_a_token = || {
        let decision = pessimist.decision.as_ref();
        decision.map_or(true, |decision| !decision.route().is_public())
    };
    if !pessimist.lets_in() && asks_for_a_token() {
        if !recorded.token_looked_at && may_let_in(&pessimist, read) {
            let why = "asks for a token, and nobody looked for one";
            return Some((Becomes::CannotTell, why.to_owned()));
        }
        let by_trust = matches!(
            recorded.refused,
            Some(Reason::IssuerNotTrusted | Reason::AudienceMismatch | Reason::AudienceForm)
        );
        let by_settings = matches!(
            recorded.refused,
            Some(
                Reason::TokenVersionNotAccepted
                    | Reason::TokenExpired
                    | Reason::TokenNotYetValid
                    | Reason::AlgorithmNotAllowed
                    | Reason::TokenTooLarge
            )
        );
        if by_settings && read.has_settings && may_let_in(&pessimist, read) {
            let why = "may have been refused by other settings under `entra`, and the token was never verified";
            return Some((Becomes::CannotTell, why.to_owned()));
        }
        if by_trust && recorded.trust != read.policy.trust() && may_let_in(&pessimist, read) {
            let why = "trusts other tenants or audiences, and the token was never verified";
            return Some((Becomes::CannotTell, why.to_owned()));
        }
    }
    match (recorded.allowed, pessimist.lets_in()) {
        (true, false) => Some((Becomes::Refused, is(&pessimist))),
        // To whom a sealed URL was given, no policy says.
        (false, true) if recorded.followed => None,
        (false, true) => Some((Becomes::LetIn, is(&pessimist))),
        (true, true) | (false, false) => None,
    }
}

/// Whether the route lets anybody in at all: where none takes the request, or none of its callers is let in,
/// no token would help.
fn may_let_in(answer: &Answer<'_>, read: &Read) -> bool {
    let decision = answer.decision.as_ref();
    decision.is_ok_and(|decision| {
        let reach = read.policy.reach(decision.route());
        reach.map_or(true, |reach| !reach.is_empty())
    })
}

/// What the conditions of the route read that a record does not hold.
fn not_recorded(answer: &Answer<'_>, known: &Known) -> String {
    let route = answer
        .decision
        .as_ref()
        .ok()
        .map(|decision| decision.route());
    let rules = route.into_iter().flat_map(|route| route.rules());
    let conditions = rules.filter_map(|rule| rule.condition());
    let fields = conditions.flat_map(|condition| condition.fields());
    let mut missing: BTreeSet<String> = fields
        .filter(|field| match field {
            Field::Header(name) => !known.headers.contains(name),
            Field::Claim(name) => !known.claims.contains(name),
            Field::Address
            | Field::Principal
            | Field::CertificateThumbprint
            | Field::CertificateSubject
            | Field::CertificateIssuer => known.hashed,
            _ => false,
        })
        .map(ToString::to_string)
        .collect();
    if missing.is_empty() && known.hashed {
        missing.insert("who called from where, which is told by hashes alone".to_owned());
    }
    missing.into_iter().collect::<Vec<_>>().join(", ")
}

fn was(recorded: &Recorded) -> String {
    let decision = if recorded.allowed { "allow" } else { "deny" };
    let rule = recorded.rule.as_ref().map(|rule| format!(" ({rule})"));
    format!(
        "{decision}: {}{}",
        recorded.reason,
        rule.unwrap_or_default()
    )
}

fn is(answer: &Answer<'_>) -> String {
    let place = answer.decision.as_ref().ok().map(|decision| {
        let rule = decision.rule().map(|rule| format!(" {rule}"));
        format!(" ({}{})", decision.route().name(), rule.unwrap_or_default())
    });
    format!(
        "{}: {}{}",
        if answer.lets_in() { "allow" } else { "deny" },
        answer.reason(),
        place.unwrap_or_default()
    )
}

/// The app by its name in the policies, or by its ID.
fn app(recorded: &Recorded, read: &Read) -> String {
    let Caller::Claims(claims) = &recorded.question.caller else {
        return "nobody known".to_owned();
    };
    let id = claims.get("azp").or_else(|| claims.get("appid"));
    let id = id.and_then(Value::as_str).unwrap_or_default();
    let name = id
        .parse()
        .ok()
        .and_then(|app| read.policy.names().apps().name(app));
    name.map_or_else(|| id.to_owned(), |name| name.to_string())
}
