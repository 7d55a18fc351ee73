//! The signature algorithms there are. The key decides which of them may be used with it; the token
//! only names one, and a name that does not fit the key is refused.

use aws_lc_rs::signature::{self, RsaParameters};

use crate::files;

/// An RSA signature algorithm (RFC 7518 section 3.1). No HMAC and no `none`: they have no variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256: what Entra signs with.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
}

impl Algorithm {
    /// Its name in a JOSE header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
        }
    }

    /// How a signature of this algorithm is verified, with moduli of 2048 to 8192 bits.
    pub(super) fn parameters(self) -> &'static RsaParameters {
        match self {
            Self::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        }
    }
}

impl From<files::Algorithm> for Algorithm {
    fn from(written: files::Algorithm) -> Self {
        match written {
            files::Algorithm::Rs256 => Self::Rs256,
            files::Algorithm::Rs384 => Self::Rs384,
            files::Algorithm::Rs512 => Self::Rs512,
            files::Algorithm::Ps256 => Self::Ps256,
            files::Algorithm::Ps384 => Self::Ps384,
            files::Algorithm::Ps512 => Self::Ps512,
        }
    }
}
