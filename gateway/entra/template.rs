//! An issuer that stands for that of each tenant, as keys and metadata write it.

use uuid::fmt::Hyphenated;

use crate::ids::TenantId;

/// An issuer as it is written for many tenants: `{tenantid}`, whatever its case, stands for the tenant, as Entra's
/// documentation asks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IssuerTemplate {
    before: Box<str>,
    /// What stands behind the tenant. `None` for the issuer of one tenant, which is named outright.
    after: Option<Box<str>>,
}

impl IssuerTemplate {
    pub(super) fn parse(written: &str) -> Self {
        const PLACE: &str = "{tenantid}";
        let at = written.to_ascii_lowercase().find(PLACE);
        let parts = at.and_then(|at| Some((written.get(..at)?, written.get(at + PLACE.len()..)?)));
        let (before, after) =
            parts.map_or((written, None), |(before, after)| (before, Some(after)));
        Self {
            before: before.into(),
            after: after.map(Into::into),
        }
    }

    /// Whether it is `issuer` for this tenant. Allocates nothing.
    pub(super) fn is_for(&self, tenant: TenantId, issuer: &str) -> bool {
        let Some(after) = &self.after else {
            return *self.before == *issuer;
        };
        let named = issuer.strip_prefix(&*self.before);
        let named = named.and_then(|rest| rest.strip_suffix(&**after));
        let mut room = [0; Hyphenated::LENGTH];
        let tenant = tenant.uuid().as_hyphenated().encode_lower(&mut room);
        named.is_some_and(|named| named == tenant)
    }

    /// The issuer for this tenant.
    pub(super) fn of(&self, tenant: TenantId) -> String {
        match &self.after {
            Some(after) => format!("{}{tenant}{after}", self.before),
            None => self.before.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_that_of_the_tenant_in_its_place_and_of_no_other() {
        let tenant: TenantId = "0123abcd-0000-4000-8000-00000000beef"
            .parse()
            .expect("a GUID");
        let other: TenantId = "0123abcd-0000-4000-8000-00000000bee0"
            .parse()
            .expect("a GUID");
        for written in [
            "https://sts.windows.net/{tenantid}/",
            "https://login.microsoftonline.com/{TenantID}/v2.0",
            "{tenantid}",
            "https://login.microsoftonline.com/0123abcd-0000-4000-8000-00000000beef/v2.0",
            "https://contoso.example/",
        ] {
            let template = IssuerTemplate::parse(written);
            let own = template.of(tenant);
            let at = written.to_ascii_lowercase().find("{tenantid}");
            let expected = match at {
                Some(at) => written.replace(&written[at..at + 10], &tenant.to_string()),
                None => written.to_owned(),
            };
            assert_eq!(own, expected);
            assert!(template.is_for(tenant, &own), "{written}");
            assert_eq!(template.is_for(other, &own), at.is_none(), "{written}");
            for wrong in [
                String::new(),
                own.to_uppercase(),
                format!("{own}/"),
                own[1..].to_owned(),
            ] {
                assert!(!template.is_for(tenant, &wrong), "{written} for {wrong}");
            }
        }
    }

    #[test]
    fn what_stands_before_and_behind_may_not_share_a_byte() {
        let tenant = TenantId::new(uuid::Uuid::nil());
        let template = IssuerTemplate::parse("ab{tenantid}ab");
        assert!(!template.is_for(tenant, "ab"));
        assert!(!template.is_for(tenant, "abab"));
    }
}
