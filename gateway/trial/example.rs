//! A caller of a region as a request that somebody could send: the example that shows a difference.

use std::time::Duration;

use http::{HeaderMap, Method, Version};

use super::{Caller, Question};
use crate::policy::access::Point;
use crate::policy::told::spec;
use crate::policy::{Witness, words};

/// The request that a caller of a region would send, to a host and path that stand for others. What
/// conditions come to is not in it: nobody but their authors knows what makes them true.
pub fn example(point: &Point, witness: &Witness, method: &Method) -> Question {
    let now = Duration::from_secs(point.time);
    Question {
        method: method.clone(),
        host: witness.host.clone(),
        target: witness.path.clone(),
        headers: HeaderMap::new(),
        client: words::address(point.address),
        certificate: None,
        now,
        version: Version::HTTP_11,
        caller: match &point.token {
            None => Caller::Nobody,
            Some(token) => Caller::Claims(spec(token, now).claims()),
        },
    }
}
