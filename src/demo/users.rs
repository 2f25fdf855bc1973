//! The users and applications of the demo, with the expected result for each pair. The banner, the
//! provider's pages and the tests read this table.

use std::fmt;

/// A user. Each stands for one case of real directories.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct User {
    /// The value in links, and the local part of the email address.
    pub(super) login: &'static str,
    pub(super) name: &'static str,
    /// The user's special case, in a few words.
    pub(super) about: &'static str,
    pub(super) email_verified: bool,
    /// Names of the groups before and after the project groups.
    groups: [&'static [&'static str]; 2],
    /// The number of the user's project groups.
    projects: u16,
    /// The result for each of [`APPLICATIONS`], in their order.
    pub(super) expected: [Expected; APPLICATIONS.len()],
}

/// The result when a user opens an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// The application opens.
    Opens,
    /// The user signs in, and the policies deny access.
    Denied,
    /// The login is rejected, so there is no session.
    NoLogin,
}

/// An application behind the proxy.
#[derive(Debug)]
pub(super) struct Application {
    /// The host's first label, before `.localhost`.
    pub(super) label: &'static str,
    pub(super) name: &'static str,
    /// The users with access, in a few words.
    pub(super) who: &'static str,
    pub(super) decision: &'static str,
    /// The policy's only rule, in TOML.
    pub(super) include: &'static str,
}

/// A group in the provider's directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DemoGroup {
    pub(super) id: String,
    pub(super) name: String,
}

pub(super) const APPLICATIONS: [Application; 4] = [
    Application {
        label: "wiki",
        name: "Wiki",
        who: "every user who signs in",
        decision: "allow",
        include: "{ everyone = {} }",
    },
    Application {
        label: "eng",
        name: "Engineering",
        who: "members of Engineering",
        decision: "allow",
        include: r#"{ okta = { name = "Engineering", identity_provider_id = "demo" } }"#,
    },
    Application {
        label: "vault",
        name: "Vault",
        who: "members of Vault keepers",
        decision: "allow",
        include: r#"{ okta = { name = "Vault keepers", identity_provider_id = "demo" } }"#,
    },
    Application {
        label: "public",
        name: "Public",
        who: "open to all, without sign-in",
        decision: "bypass",
        include: "{ everyone = {} }",
    },
];

pub(super) const USERS: [User; 5] = [
    User {
        login: "alice",
        name: "Alice Ames",
        about: "engineer: in the group Engineering",
        email_verified: true,
        groups: [&["Everyone", "Engineering"], &[]],
        projects: 0,
        expected: [
            Expected::Opens,
            Expected::Opens,
            Expected::Denied,
            Expected::Opens,
        ],
    },
    User {
        login: "bob",
        name: "Bob Brown",
        about: "accountant: in the group Finance",
        email_verified: true,
        groups: [&["Everyone", "Finance"], &[]],
        projects: 0,
        expected: [
            Expected::Opens,
            Expected::Denied,
            Expected::Denied,
            Expected::Opens,
        ],
    },
    User {
        login: "carol",
        name: "Carol Chen",
        about: "in 150 groups, last Vault keepers",
        email_verified: true,
        groups: [&["Everyone"], &["Vault keepers"]],
        projects: 148,
        expected: [
            Expected::Opens,
            Expected::Denied,
            Expected::Opens,
            Expected::Opens,
        ],
    },
    User {
        login: "zed",
        name: "Zed Zhang",
        about: "new employee: in no group",
        email_verified: true,
        groups: [&[], &[]],
        projects: 0,
        expected: [
            Expected::Opens,
            Expected::Denied,
            Expected::Denied,
            Expected::Opens,
        ],
    },
    User {
        login: "una",
        name: "Una Ulm",
        about: "her email address is not verified",
        email_verified: false,
        groups: [&["Everyone", "Engineering"], &[]],
        projects: 0,
        expected: [
            Expected::NoLogin,
            Expected::NoLogin,
            Expected::NoLogin,
            Expected::Opens,
        ],
    },
];

impl User {
    pub(super) fn by_login(login: &str) -> Option<&'static Self> {
        USERS.iter().find(|user| user.login == login)
    }

    pub(super) fn by_subject(subject: &str) -> Option<&'static Self> {
        USERS.iter().find(|user| user.subject() == subject)
    }

    /// Returns the provider's id of the user, twenty characters as at Okta.
    pub(super) fn subject(&self) -> String {
        format!("00udemo{:0>13}", self.login)
    }

    pub(super) fn email(&self) -> String {
        format!("{}@demo.example", self.login)
    }

    /// Returns all groups in the directory's order.
    pub(super) fn groups(&self) -> Vec<DemoGroup> {
        let [before, after] = self.groups;
        let named = |names: &'static [&'static str]| names.iter().map(|name| (*name).to_owned());
        let projects = (1..=self.projects).map(|number| format!("Project {number:03}"));
        named(before)
            .chain(projects)
            .chain(named(after))
            .map(DemoGroup::new)
            .collect()
    }

    /// Returns the names of the applications that open after a login.
    pub(super) fn opens(&self) -> Vec<&'static str> {
        let opens = |(expected, application): &(&Expected, &Application)| {
            **expected == Expected::Opens && application.requires_login()
        };
        self.expected
            .iter()
            .zip(&APPLICATIONS)
            .filter(opens)
            .map(|(_, application)| application.name)
            .collect()
    }
}

impl Application {
    pub(super) fn requires_login(&self) -> bool {
        self.decision != "bypass"
    }
}

impl DemoGroup {
    fn new(name: String) -> Self {
        let word: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        Self {
            id: format!("00gdemo{:0>13}", word.to_lowercase()),
            name,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Opens => "opens",
            Self::Denied => "denied",
            Self::NoLogin => "no login",
        })
    }
}
