//! How slow a caller may be. One who sends or takes a byte now and then holds a connection, and perhaps a backend,
//! without ever standing still. So each has some time to spare, uses it up while it is waited for, and gains some with
//! each byte; when none is left, it has been too slow. The minder of the connection looks now and then: no request
//! sets a timer for it or asks for the time.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use super::stall::Movement;

/// The least that callers send and take while they are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinRate {
    /// Bytes a second.
    pub rate: u64,
    /// How long it may be less.
    pub grace: Duration,
}

/// The kernel takes an answer in lumps of about this size, in bytes, however slowly the caller reads it.
const LUMP: u64 = 64 * 1024;

impl MinRate {
    /// So many looks in the time of grace.
    const LOOKS: u32 = 4;

    /// Between two looks.
    pub(super) fn every(self) -> Duration {
        self.grace / Self::LOOKS
    }

    fn in_time(self, time: Duration) -> u64 {
        let bytes = u128::from(self.rate) * time.as_millis() / 1000;
        u64::try_from(bytes).unwrap_or(u64::MAX).max(1)
    }
}

/// What a caller has to spare, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spare(u64);

impl Spare {
    pub(super) fn new(rate: MinRate) -> Self {
        Self(rate.in_time(rate.grace))
    }

    /// So much has moved since the last look, and the caller is waited for or not. Whether nothing is left. Of what
    /// moves no more counts for later than the time of grace and `besides`.
    fn look(&mut self, rate: MinRate, moved: u64, is_waited_for: bool, besides: u64) -> bool {
        let most = rate.in_time(rate.grace).saturating_add(besides);
        self.0 = self.0.saturating_add(moved).min(most);
        if is_waited_for {
            self.0 = self.0.saturating_sub(rate.in_time(rate.every()));
        }
        self.0 == 0
    }
}

/// How fast the caller takes what it is sent.
pub(super) struct Taking {
    spare: Spare,
    written: u64,
}

impl Taking {
    pub(super) fn new(rate: MinRate) -> Self {
        Self {
            spare: Spare::new(rate),
            written: 0,
        }
    }

    /// Looks, `written` bytes having been written since the beginning. Whether it is too slow.
    pub(super) fn look(&mut self, rate: MinRate, written: u64, is_waited_for: bool) -> bool {
        let moved = written.wrapping_sub(self.written);
        self.written = written;
        self.spare.look(rate, moved, is_waited_for, LUMP)
    }
}

/// A request's body that had to be waited for.
#[derive(Default)]
pub(super) struct Upload {
    is_waited_for: Cell<bool>,
    came: Cell<u64>,
    spare: Cell<Option<Spare>>,
    is_slow: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

/// Looks at the bodies of a connection. As long as one of them is not read, for its backend is slow, the others may
/// have no room to come in: none is held to its rate.
pub(super) fn look(uploads: &[Rc<Upload>], rate: MinRate) {
    let all_are = uploads.iter().all(|upload| upload.is_waited_for.get());
    for upload in uploads {
        let Some(mut spare) = upload.spare.get() else {
            upload.spare.set(Some(Spare::new(rate)));
            upload.came.set(0);
            continue;
        };
        let is_slow = spare.look(rate, upload.came.take(), all_are, 0);
        upload.spare.set(Some(spare));
        if is_slow {
            upload.is_slow.set(true);
            if let Some(waker) = upload.waker.take() {
                waker.wake();
            }
        }
    }
}

/// How fast a request's body comes. Nothing is kept of one that never has to be waited for.
pub(super) struct Pace {
    movement: Rc<Movement>,
    upload: OnceCell<Rc<Upload>>,
    takes_time: Cell<bool>,
}

impl Pace {
    pub(super) fn new(movement: &Rc<Movement>) -> Self {
        Self {
            movement: Rc::clone(movement),
            upload: OnceCell::new(),
            takes_time: Cell::new(false),
        }
    }

    /// It may come as slowly as it likes.
    pub(super) fn take_time(&self) {
        self.takes_time.set(true);
    }

    /// Nothing is there, and whoever has the waker waits for it. Whether that is too slow.
    pub(super) fn waits(&self, waker: &Waker) -> bool {
        if self.takes_time.get() {
            return false;
        }
        let upload = self.upload.get_or_init(|| self.movement.begins_upload());
        upload.is_waited_for.set(true);
        upload.waker.set(Some(waker.clone()));
        upload.is_slow.get()
    }

    /// So many bytes are there.
    pub(super) fn came(&self, bytes: usize) {
        if let Some(upload) = self.upload.get() {
            upload.is_waited_for.set(false);
            upload.came.set(upload.came.get() + bytes as u64);
        }
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.get() {
            self.movement.ends_upload(upload);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: MinRate = MinRate {
        rate: 240,
        grace: Duration::from_secs(8),
    };

    /// After how many looks a caller is too slow who moves `bytes` from look to look. None if never.
    fn slow_after(bytes: u64) -> Option<usize> {
        let mut spare = Spare::new(RATE);
        (1..1000).find(|_| spare.look(RATE, bytes, true, 0))
    }

    #[test]
    fn who_moves_less_than_the_rate_is_too_slow_after_the_grace_and_who_moves_more_never() {
        assert_eq!(slow_after(0), Some(4), "the time of grace");
        assert_eq!(slow_after(240), Some(7));
        assert_eq!(slow_after(400), Some(19));
        assert_eq!(slow_after(480), None);
        assert_eq!(slow_after(100_000), None);
    }

    #[test]
    fn who_is_not_waited_for_loses_nothing_and_much_at_once_buys_no_more_than_the_grace() {
        let mut spare = Spare::new(RATE);
        for _ in 0..100 {
            assert!(!spare.look(RATE, 0, false, 0));
        }
        assert!(!spare.look(RATE, 1 << 40, true, 0));
        let looks = (0..).take_while(|_| !spare.look(RATE, 0, true, 0));
        assert_eq!(looks.count(), 2);
    }

    #[test]
    fn a_body_that_is_not_read_excuses_the_others_of_its_connection() {
        let uploads = [Rc::new(Upload::default()), Rc::new(Upload::default())];
        let [held, waited] = &uploads;
        waited.is_waited_for.set(true);
        for _ in 0..100 {
            look(&uploads, RATE);
        }
        assert!(!held.is_slow.get() && !waited.is_slow.get());
        held.is_waited_for.set(true);
        for _ in 0..4 {
            look(&uploads, RATE);
        }
        assert!(held.is_slow.get() && waited.is_slow.get());
    }
}
