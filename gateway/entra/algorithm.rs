//! How signatures are verified. The key decides which algorithms may be used with it; the token only
//! names one, and a name that does not fit the key is refused. No HMAC and no `none`: they have no
//! variant.

use aws_lc_rs::signature::{self, RsaParameters};

pub use crate::files::Algorithm;

impl Algorithm {
    /// Its name in a JOSE header (RFC 7518 section 3.1).
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
