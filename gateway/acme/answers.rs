//! What a CA is answered that wants proof of a name: a certificate over TLS (TLS-ALPN-01, RFC 8737), or a text over
//! plain HTTP (HTTP-01, RFC 8555 section 8.3). Answers lie as files in the folder that replicas share, so that the
//! CA may come to any of them; who shares the folder looks there every [`LOOK`].

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

use super::Challenge;
use super::folder::{self, Folder, LARGEST};
use super::names::short_digest;
use crate::files::read_whole;

/// How often the folder is looked at.
pub(super) const LOOK: Duration = Duration::from_secs(2);
/// How long the CA is not called after answers were written: every replica has looked by then.
pub(super) const SETTLE: Duration = Duration::from_secs(5);

/// What proves a name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Answer {
    pub(super) name: String,
    pub(super) token: String,
    /// The token and the account's thumbprint. Public as soon as it is answered.
    pub(super) key_authorization: String,
}

impl Answer {
    fn file(&self) -> String {
        format!("{}.json", short_digest(&self.token))
    }
}

/// The answers that are ready.
pub(super) struct Answers {
    folder: Folder,
    challenge: Challenge,
    // Read in handshakes and requests; written by who runs alone.
    ready: ArcSwap<Ready>,
}

#[derive(Default)]
struct Ready {
    files: BTreeSet<String>,
    by_token: HashMap<String, String>,
    by_name: HashMap<String, Arc<CertifiedKey>>,
}

impl Answers {
    pub(super) fn new(folder: Folder, challenge: Challenge) -> Arc<Self> {
        Arc::new(Self {
            folder,
            challenge,
            ready: ArcSwap::default(),
        })
    }

    /// The certificate that is shown to a CA that asks for this name.
    pub(super) fn of_name(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.ready.load().by_name.get(name).cloned()
    }

    /// The body that a CA gets that asks for this token.
    pub(super) fn of_token(&self, token: &str) -> Option<String> {
        self.ready.load().by_token.get(token).cloned()
    }

    /// How names are proved.
    pub(super) fn challenge(&self) -> Challenge {
        self.challenge
    }

    /// Puts answers where all replicas find them. The lock must be held.
    pub(super) fn put(&self, answers: &[Answer]) -> io::Result<()> {
        for answer in answers {
            let text = serde_json::to_vec(answer).map_err(io::Error::other)?;
            folder::replace(&self.folder.answers(), &answer.file(), &text)?;
        }
        self.look();
        Ok(())
    }

    /// Takes all answers away, those too that a crash left behind. The lock must be held.
    pub(super) fn clear(&self) {
        let folder = self.folder.answers();
        for file in self.files() {
            // What cannot be removed is an answer to a question that nobody asks again.
            let _ = fs::remove_file(folder.join(file));
        }
        self.look();
    }

    /// Takes up what is in the folder. What cannot be read is not answered.
    pub(super) fn look(&self) {
        let files = self.files();
        let before = self.ready.load();
        if before.files == files {
            return;
        }
        let mut ready = Ready::default();
        let read = |file: String| Some((self.read(&file)?, file));
        for (answer, file) in files.into_iter().filter_map(read) {
            // What cannot be read now is tried again.
            ready.files.insert(file);
            if self.challenge == Challenge::TlsAlpn01 {
                let name = answer.name.to_ascii_lowercase();
                // A certificate that a CA may be looking at this moment stays the same.
                let kept = before.by_token.get(&answer.token);
                let kept = kept.and_then(|_| before.by_name.get(&name).cloned());
                if let Some(certified) = kept.or_else(|| certify(&answer)) {
                    ready.by_name.insert(name, certified);
                }
            }
            ready
                .by_token
                .insert(answer.token, answer.key_authorization);
        }
        self.ready.store(Arc::new(ready));
    }

    fn files(&self) -> BTreeSet<String> {
        let names = folder::names(&self.folder.answers(), ".json");
        names.into_iter().collect()
    }

    fn read(&self, file: &str) -> Option<Answer> {
        let text = read_whole(&self.folder.answers().join(file), LARGEST);
        serde_json::from_slice(&text.ok()?).ok()
    }
}

/// The certificate of RFC 8737 section 3: for this name alone, and with the digest of the key authorization in an
/// extension that is critical, so that nobody else takes it for anything.
fn certify(answer: &Answer) -> Option<Arc<CertifiedKey>> {
    let digest = digest(&SHA256, answer.key_authorization.as_bytes());
    let mut params = CertificateParams::new([answer.name.clone()]).ok()?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
    let key = KeyPair::generate().ok()?;
    let certificate = params.self_signed(&key).ok()?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).ok()?;
    let key = any_ecdsa_type(&key).ok()?;
    Some(Arc::new(CertifiedKey::new(
        vec![certificate.der().clone()],
        key,
    )))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use http::Uri;

    use super::*;

    fn folder(root: &tempfile::TempDir) -> Folder {
        let only_ours = fs::Permissions::from_mode(0o700);
        fs::set_permissions(root.path(), only_ours).expect("set");
        Folder::open(root.path(), &Uri::from_static("https://ca.example/")).expect("opened")
    }

    fn answer(name: &str) -> Answer {
        Answer {
            name: name.to_owned(),
            token: format!("token-of-{name}"),
            key_authorization: format!("token-of-{name}.thumbprint"),
        }
    }

    #[test]
    fn any_replica_answers_for_all_until_the_order_is_over() {
        let root = tempfile::tempdir().expect("a folder");
        let one = Answers::new(folder(&root), Challenge::TlsAlpn01);
        let other = Answers::new(folder(&root), Challenge::TlsAlpn01);
        one.put(&[answer("a.example"), answer("b.example")])
            .expect("put");
        other.look();
        for answers in [&one, &other] {
            assert!(answers.of_name("a.example").is_some());
            assert!(answers.of_name("c.example").is_none());
            let body = answers.of_token("token-of-b.example");
            assert_eq!(body.as_deref(), Some("token-of-b.example.thumbprint"));
        }
        one.clear();
        other.look();
        assert!(other.of_name("a.example").is_none());
        assert!(other.of_token("token-of-b.example").is_none());
    }

    #[test]
    fn a_certificate_that_is_shown_does_not_change_while_others_come() {
        let root = tempfile::tempdir().expect("a folder");
        let answers = Answers::new(folder(&root), Challenge::TlsAlpn01);
        answers.put(&[answer("a.example")]).expect("put");
        let shown = answers.of_name("a.example").expect("a certificate");
        answers.put(&[answer("b.example")]).expect("put");
        let again = answers.of_name("a.example").expect("a certificate");
        assert!(Arc::ptr_eq(&shown, &again));
    }

    #[test]
    fn what_cannot_be_read_is_not_answered() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = folder(&root);
        fs::write(folder.answers().join("x.json"), "{").expect("written");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let pipe = folder.answers().join("pipe.json");
        rustix::fs::mkfifoat(rustix::fs::CWD, pipe, mode).expect("a pipe");
        let answers = Answers::new(folder, Challenge::Http01);
        answers.put(&[answer("a.example")]).expect("put");
        assert!(answers.of_token("token-of-a.example").is_some());
        assert!(
            answers.of_name("a.example").is_none(),
            "nobody asks over TLS"
        );
        // Once it can be, it is.
        let late = serde_json::to_vec(&answer("b.example")).expect("JSON");
        fs::write(answers.folder.answers().join("x.json"), late).expect("written");
        answers.look();
        assert!(answers.of_token("token-of-b.example").is_some());
    }
}
