//! Sealed URLs. Azure answers long calls with URLs that are keys in themselves: the SAS URL of a Logic
//! App's run, the system key of Durable Functions. The caller gets an opaque URL of the gateway's own
//! instead, which the gateway opens when it is followed, and authorises the follower again. Pure:
//! nothing here does I/O, and time is handed in.

mod body;
mod keys;
mod link;
mod place;
mod placeholders;
mod ring;
mod scan;
mod sealer;
mod spelling;
mod url;

#[cfg(test)]
mod tests;

pub use self::body::BodySealer;
pub use self::link::{Altered, Issued, Link, Methods, Signed};
pub use self::place::Place;
pub use self::ring::{Ring, RingFault, Unopened};
pub use self::scan::Text;
pub use self::sealer::{Caught, Published, Sealer, WayOn, may_hold_urls, withhold};

/// Where the gateway's sealed URLs live, on every host.
pub const SEALED_PATH: &str = "/.sealed/";

/// The blob in a canonical path, if the path is a sealed URL's.
pub fn opaque(path: &str) -> Option<&str> {
    let blob = path.strip_prefix(SEALED_PATH)?;
    (!blob.is_empty() && !blob.contains('/')).then_some(blob)
}
