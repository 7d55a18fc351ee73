//! Session tickets that replicas share (RFC 8446 section 4.6.1): what one of them has given out, another takes, so that
//! a caller need not shake hands anew wherever it is sent. Their keys change with the time, for all replicas alike.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;

use crate::clock::Clock;
use crate::credentials::{Derived, Held};
use crate::files::{Diagnostics, ListenTls};
use crate::secret::Secret;
use crate::upstream::Presenting;

/// The fewest characters of a key's text. It is stretched, not strengthened.
const SHORTEST: usize = 32;

/// How long one key encrypts tickets. Those of the period before are still taken, and those of the period to come: the
/// clocks of replicas are not quite alike.
const PERIOD: Duration = Duration::from_secs(6 * 60 * 60);

const SALT: &[u8] = b"portcullis tickets 1";

/// The most keys: each ticket that a caller shows is looked up among those that are derived from them.
const MOST_KEYS: usize = 16;

/// What a ticket begins with: by which key it was made. It says nothing of the key.
const NAME_LEN: usize = 8;

/// Makes and takes session tickets by keys that every replica derives from the same secrets.
pub struct Tickets {
    roots: Arc<Derived<Roots>>,
    /// As they were derived last.
    keys: ArcSwapOption<Keys>,
    clock: Arc<dyn Clock>,
}

/// What keys are derived from: the first makes tickets, all take them.
struct Roots(Vec<Prk>);

/// The keys of one period, of the one before and of the one to come; the first makes tickets.
struct Keys {
    roots: Arc<Roots>,
    period: u64,
    keys: Vec<Key>,
}

struct Key {
    name: [u8; NAME_LEN],
    key: LessSafeKey,
}

impl Tickets {
    /// Of the secrets in the places that are written, of which there is one at least. `None` where a place cannot be
    /// used. An error was added in both bad cases.
    ///
    /// # Errors
    /// As [`Tickets::of`].
    pub fn read(
        written: &ListenTls,
        presenting: Presenting<'_>,
        clock: &Arc<dyn Clock>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Result<Self, String>> {
        let first = written.ticket_keys.first()?;
        let keys = written.ticket_keys.iter();
        let places: Vec<_> = keys.map(|key| presenting.text(key, diagnostics)).collect();
        let places = places.into_iter().collect::<Option<Vec<_>>>()?;
        Some(Self::of(places, Arc::clone(clock)).inspect_err(|why| {
            diagnostics
                .error(
                    &first.span,
                    format!("no session tickets can be made: {why}"),
                )
                .help("put 32 random bytes there in base64: `openssl rand -base64 32`");
        }))
    }

    /// Of the secrets in some places, one a line.
    ///
    /// # Errors
    /// If what is there already is none, or too short.
    pub fn of(places: Vec<Held<String>>, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let roots = Derived::new(places, Roots::of_texts);
        match roots.fault(&clock.now()) {
            Some(why) => Err(why),
            None => Ok(Self {
                roots,
                keys: ArcSwapOption::empty(),
                clock,
            }),
        }
    }

    /// Nothing while the secrets were not read.
    fn keys(&self) -> Option<Arc<Keys>> {
        let now = self.clock.now();
        let roots = self.roots.current(&now)?;
        let period = now.unix.as_secs() / PERIOD.as_secs();
        let last = self.keys.load_full();
        let is_same = |keys: &Arc<Keys>| keys.period == period && Arc::ptr_eq(&keys.roots, &roots);
        if let Some(keys) = last.filter(is_same) {
            return Some(keys);
        }
        let keys = Arc::new(Keys::of(roots, period).ok()?);
        self.keys.store(Some(Arc::clone(&keys)));
        Some(keys)
    }
}

impl Roots {
    fn of_texts(texts: &[Secret<String>]) -> Result<Self, String> {
        let lines = texts.iter().flat_map(|text| text.expose().lines());
        let keys = lines.map(str::trim).filter(|line| !line.is_empty());
        let roots: Result<Vec<Prk>, String> = keys
            .map(|key| match key.chars().count() < SHORTEST {
                true => Err(format!("a key has fewer than {SHORTEST} characters")),
                false => Ok(Salt::new(HKDF_SHA256, SALT).extract(key.as_bytes())),
            })
            .collect();
        match roots? {
            roots if roots.is_empty() => Err("there is no key in it".to_owned()),
            roots if roots.len() > MOST_KEYS => {
                Err(format!("there are more than {MOST_KEYS} keys"))
            }
            roots => Ok(Self(roots)),
        }
    }
}

impl Keys {
    fn of(roots: Arc<Roots>, period: u64) -> Result<Self, Unspecified> {
        let periods = [period, period.saturating_sub(1), period + 1];
        let pairs = periods
            .iter()
            .flat_map(|period| roots.0.iter().map(move |root| (root, *period)));
        let keys: Result<Vec<Key>, Unspecified> =
            pairs.map(|(root, period)| Key::of(root, period)).collect();
        Ok(Self {
            keys: keys?,
            roots,
            period,
        })
    }

    /// Nonces are random, over many replicas; GCM-SIV forgives should two ever be the same (RFC 8452 section 9).
    fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let Key { name, key } = self.keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut text = plain.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(unique, Aad::empty(), &mut text)
            .ok()?;
        Some([name.as_slice(), &nonce, &text].concat())
    }

    fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_LEN>()?;
        let found = self.keys.iter().find(|key| key.name == *name)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut text = text.to_vec();
        let opened = found.key.open_in_place(nonce, Aad::empty(), &mut text);
        let length = opened.ok()?.len();
        text.truncate(length);
        Some(text)
    }
}

impl Key {
    fn of(root: &Prk, period: u64) -> Result<Self, Unspecified> {
        let period = period.to_be_bytes();
        let of_key = [b"key".as_slice(), &period];
        let of_name = [b"name".as_slice(), &period];
        let mut name = [0; NAME_LEN];
        root.expand(&of_name, NameLength)?.fill(&mut name)?;
        let key = root.expand(&of_key, &AES_256_GCM_SIV)?;
        Ok(Self {
            name,
            key: LessSafeKey::new(key.into()),
        })
    }
}

struct NameLength;

impl KeyType for NameLength {
    fn len(&self) -> usize {
        NAME_LEN
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    /// In seconds. Tickets that are older are not taken.
    fn lifetime(&self) -> u32 {
        u32::try_from(PERIOD.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys()?.seal(plain)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.keys()?.open(ticket)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, SystemClock};

    const FIRST: &str = "a key of at least thirty-two characters";
    const SECOND: &str = "another one, which is long enough as well";

    fn replica(keys: &[&str], clock: &ManualClock) -> Tickets {
        let keys = Secret::new(keys.join("\n"));
        Tickets::of(vec![Held::Fixed(keys)], Arc::new(clock.clone())).expect("keys")
    }

    #[test]
    fn a_ticket_of_one_replica_is_taken_by_all_that_have_its_key() {
        let clock = ManualClock::at(SystemClock.now());
        let ticket = replica(&[FIRST], &clock).encrypt(b"session").expect("made");
        for (keys, taken) in [
            (vec![FIRST], true),
            (vec![SECOND, FIRST], true),
            (vec![SECOND], false),
        ] {
            let opened = replica(&keys, &clock).decrypt(&ticket);
            assert_eq!(
                opened.as_deref(),
                taken.then_some(b"session".as_slice()),
                "{keys:?}"
            );
        }
        let mut forged = ticket.clone();
        *forged.last_mut().expect("a byte") ^= 1;
        assert_eq!(replica(&[FIRST], &clock).decrypt(&forged), None);
        assert_eq!(replica(&[FIRST], &clock).decrypt(&ticket[..8]), None);
    }

    #[test]
    fn keys_change_with_the_time_and_old_tickets_end() {
        let clock = ManualClock::at(SystemClock.now());
        let tickets = replica(&[FIRST], &clock);
        let ticket = tickets.encrypt(b"session").expect("made");
        clock.advance(PERIOD);
        assert!(tickets.decrypt(&ticket).is_some());
        let later = tickets.encrypt(b"session").expect("made");
        assert_ne!(ticket.get(..NAME_LEN), later.get(..NAME_LEN));
        clock.advance(PERIOD);
        assert_eq!(tickets.decrypt(&ticket), None);
        assert!(tickets.decrypt(&later).is_some());
    }

    #[test]
    fn keys_that_are_too_short_are_refused_without_being_shown() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(SystemClock.now()));
        let many = format!("{FIRST}\n").repeat(17);
        for (text, says) in [
            ("planted", "fewer than 32"),
            ("\n \n", "no key"),
            (&many, "more than 16"),
        ] {
            let places = vec![Held::Fixed(Secret::new(text.to_owned()))];
            let why = Tickets::of(places, Arc::clone(&clock)).expect_err("refused");
            assert!(why.contains(says) && !why.contains("planted"), "{why}");
        }
    }
}
