//! The signature of a Logic App's SAS URL, kept as a secret: for a workflow that takes no token yet.

use std::fmt;

use crate::canonical::KeyParameters;
use crate::secret::Secret;

/// The signed parameters of a SAS URL: `sp`, `sv`, `sig` and perhaps `se`, ready to stand in a query.
#[derive(Clone, PartialEq, Eq)]
pub struct SasQuery(String);

impl SasQuery {
    /// As [`SasQuery::read`], of the first of some texts.
    ///
    /// # Errors
    /// As there.
    pub fn of_texts(texts: &[Secret<String>]) -> Result<Self, String> {
        let text = texts.first().map_or("", |text| text.expose());
        Self::read(text).map_err(str::to_owned)
    }

    /// Takes the signed parameters out of a secret: a whole URL as Azure hands it out, or its query.
    ///
    /// # Errors
    /// Why it holds no signature.
    pub fn read(secret: &str) -> Result<Self, &'static str> {
        let secret = secret.trim();
        let query = match secret.split_once('?') {
            Some((_, query)) => query,
            None if secret.contains("://") => {
                return Err("the secret is a URL without a signature");
            }
            None => secret,
        };
        if query.contains('#') || !query.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the secret is neither a SAS URL nor the query of one");
        }
        let signed = |parameter: &&str| {
            let name = parameter.split('=').next().unwrap_or_default();
            KeyParameters::named(name).is_some_and(is_signed)
        };
        let parameters: Vec<&str> = query.split('&').filter(signed).collect();
        let has_signature = parameters.iter().any(|parameter| {
            parameter
                .split_once('=')
                .is_some_and(|(name, value)| name == "sig" && !value.is_empty())
        });
        match has_signature {
            true => Ok(Self(parameters.join("&"))),
            false => Err("the secret holds no `sig`: put the workflow's whole SAS URL there"),
        }
    }

    /// The parameters, with `&` between them.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

fn is_signed(parameter: KeyParameters) -> bool {
    let signed = KeyParameters::SIG
        .with(KeyParameters::SP)
        .with(KeyParameters::SV)
        .with(KeyParameters::SE);
    signed.contains(parameter)
}

/// Says nothing: it is a key.
impl fmt::Debug for SasQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_taken_out_of_a_url_or_its_query() {
        const SIGNED: &str = "sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=planted";
        for secret in [
            SIGNED.to_owned(),
            format!("?{SIGNED}"),
            format!("{SIGNED}\n"),
            format!(
                "https://a.example:443/workflows/0/paths/invoke?api-version=2016-10-01&{SIGNED}"
            ),
        ] {
            let read = SasQuery::read(&secret).expect("a signature");
            assert_eq!(read.expose(), SIGNED);
            assert_eq!(format!("{read:?}"), "***");
        }
    }

    #[test]
    fn what_holds_no_signature_is_refused_without_being_shown() {
        for secret in [
            "",
            "planted",
            "https://a.example/x",
            "sig=",
            "sp=1&sv=1",
            "sig=a b",
            "sig=a#b",
        ] {
            let why = SasQuery::read(secret).expect_err(secret);
            assert!(!why.contains("planted"), "{why}");
        }
    }
}
