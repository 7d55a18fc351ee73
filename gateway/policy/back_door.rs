//! Paths by which a Functions app is administered: the host's own, those of its extensions, of built-in
//! authentication and of Kudu. Whoever comes in there owns the app, so no wildcard publishes them.

use super::path::fold;

/// Beginnings of paths, each whole segments, in lower case.
/// <https://learn.microsoft.com/azure/azure-functions/security-concepts>, the host's controllers, and
/// <https://github.com/projectkudu/kudu/wiki/REST-API>
const DOORS: [&str; 33] = [
    "/admin",
    "/runtime/webhooks",
    "/.auth",
    // Kudu: files, deployments, commands, processes.
    "/api/vfs",
    "/api/zip",
    "/api/zipdeploy",
    "/api/wardeploy",
    "/api/publish",
    "/api/command",
    "/api/deployments",
    "/api/deploy",
    "/api/scm",
    "/api/sshkey",
    "/api/processes",
    "/api/dump",
    "/api/siteextensions",
    "/api/extensionfeed",
    "/api/triggeredwebjobs",
    "/api/continuouswebjobs",
    "/api/webjobs",
    "/api/hooks",
    "/api/diagnostics",
    "/api/settings",
    "/api/environment",
    "/api/functions/admin",
    "/api/jobs",
    "/api/logs",
    "/debugconsole",
    "/processexplorer",
    "/webssh",
    "/logstream",
    "/msdeploy.axd",
    "/basicauth",
];

/// The door that a path at the backend leads through, to any reader.
pub(super) fn door(path: &str) -> Option<&'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_');
    let folded;
    // `.` may begin a door and end a segment.
    let path = match path.bytes().all(plain) {
        true => path,
        false => {
            folded = fold(path);
            &folded
        }
    };
    DOORS.into_iter().find(|door| {
        let start = path.get(..door.len());
        let follows = path.as_bytes().get(door.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(door))
            && matches!(follows, None | Some(b'/'))
    })
}

/// Whether a path is that of the interface by which a Standard app's workflows are managed: who may call it
/// has their callback URLs. <https://learn.microsoft.com/azure/logic-apps/logic-apps-limits-and-configuration>
pub(super) fn is_management(path: &str) -> bool {
    const WORKFLOWS: &str = "/runtime/webhooks/workflow/api";
    let folded = fold(path);
    let rest = folded.strip_prefix(WORKFLOWS);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a route in front of a Functions app may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guard {
    /// The path of the backend's URL, which all others stand behind.
    base: Box<str>,
    /// The door that the route names by itself.
    named: Option<&'static str>,
}

impl Guard {
    /// The guard of a route whose path at the backend, behind `base`, is this pattern.
    pub(super) fn new(base: &str, pattern: &str) -> Self {
        let base = base.trim_end_matches('/');
        let literal = pattern.split('{').next().unwrap_or_default();
        // Half a segment names nothing: `/admin{x}` is another path.
        let whole = match pattern == literal {
            true => literal,
            false => literal.rsplit_once('/').map_or("", |(whole, _)| whole),
        };
        Self {
            base: base.into(),
            named: door(&format!("{base}{whole}")),
        }
    }

    /// The door that the route names by itself.
    pub(super) fn named(&self) -> Option<&'static str> {
        self.named
    }

    /// Whether a path that the backend would see is one that the route may reach.
    pub(super) fn lets_pass(&self, path: &str) -> bool {
        match self.base.is_empty() {
            true => self.lets_reach(path),
            false => self.lets_reach(&format!("{}{path}", self.base)),
        }
    }

    /// The same for a path of the backend's host.
    pub(super) fn lets_reach(&self, path: &str) -> bool {
        let found = door(path);
        found.is_none() || found == self.named
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_is_known_in_every_spelling() {
        for path in [
            "/admin",
            "/admin/host/status",
            "/ADMIN/host/ping",
            "/Admin;x/host",
            "/admin./host",
            "/adm%69n/host",
            "/runtime/webhooks/durabletask",
            "/Runtime/WebHooks",
            "/.auth/me",
            "/%2Eauth/me",
            "/api/VFS/site",
        ] {
            assert!(door(path).is_some(), "{path}");
        }
        for path in [
            "/",
            "/administrators",
            "/api/admin",
            "/runtime",
            "/api/guests",
            "/auth",
        ] {
            assert_eq!(door(path), None, "{path}");
        }
    }

    #[test]
    fn a_route_reaches_a_door_only_by_its_name() {
        for (base, pattern, path, passes) in [
            ("", "/{*rest}", "/admin/host/status", false),
            ("", "/{*rest}", "/api/guests", true),
            ("", "/admin/{*rest}", "/admin/host/status", true),
            ("", "/admin/host/status", "/admin/host/status", true),
            ("", "/admin/{*rest}", "/runtime/webhooks/x", false),
            ("", "/admin{x}", "/admin", false),
            ("", "/a{*rest}", "/admin", false),
            ("/api", "/{*rest}", "/vfs/site", false),
            ("/runtime/webhooks/", "/{*rest}", "/durabletask", true),
        ] {
            let guard = Guard::new(base, pattern);
            assert_eq!(guard.lets_pass(path), passes, "{base} {pattern} {path}");
        }
    }
}
