//! Who exists in the demo, what there is to open, and who sees what: the one table that the banner,
//! the provider's pages and the tests read.

use std::fmt;

/// Somebody. Each is there for one case that real directories have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Person {
    /// In links, and the local part of the address.
    pub(super) login: &'static str,
    pub(super) name: &'static str,
    /// What is special about them, in a few words.
    pub(super) about: &'static str,
    pub(super) email_verified: bool,
    /// Groups by name, before and after the projects.
    groups: [&'static [&'static str]; 2],
    /// In how many project groups they are.
    projects: u16,
    /// What comes of opening each of [`APPLICATIONS`], in their order.
    pub(super) sees: [Sees; APPLICATIONS.len()],
}

/// What comes of opening an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sees {
    /// The application.
    Opens,
    /// The page that says they have no access.
    Refused,
    /// Not even a session: the login itself is refused.
    NoLogin,
}

/// Something to open.
#[derive(Debug)]
pub(super) struct Application {
    /// Its host is this, under `localhost`.
    pub(super) label: &'static str,
    pub(super) name: &'static str,
    /// Who may, in a few words.
    pub(super) who: &'static str,
    pub(super) decision: &'static str,
    /// The policy's only rule, in TOML.
    pub(super) include: &'static str,
}

/// A group as the provider's directory has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DemoGroup {
    pub(super) id: String,
    pub(super) name: String,
}

/// What there is to open.
pub(super) const APPLICATIONS: [Application; 4] = [
    Application {
        label: "wiki",
        name: "Wiki",
        who: "everybody who logs in",
        decision: "allow",
        include: "{ everyone = {} }",
    },
    Application {
        label: "eng",
        name: "Engineering",
        who: "the group Engineering",
        decision: "allow",
        include: r#"{ okta = { name = "Engineering", identity_provider_id = "demo" } }"#,
    },
    Application {
        label: "vault",
        name: "Vault",
        who: "the group Vault keepers",
        decision: "allow",
        include: r#"{ okta = { name = "Vault keepers", identity_provider_id = "demo" } }"#,
    },
    Application {
        label: "public",
        name: "Public",
        who: "anybody, without a login",
        decision: "bypass",
        include: "{ everyone = {} }",
    },
];

/// Everybody.
pub(super) const PEOPLE: [Person; 5] = [
    Person {
        login: "alice",
        name: "Alice Ames",
        about: "engineer: in the group Engineering",
        email_verified: true,
        groups: [&["Everyone", "Engineering"], &[]],
        projects: 0,
        sees: [Sees::Opens, Sees::Opens, Sees::Refused, Sees::Opens],
    },
    Person {
        login: "bob",
        name: "Bob Brown",
        about: "accountant: in the group Finance",
        email_verified: true,
        groups: [&["Everyone", "Finance"], &[]],
        projects: 0,
        sees: [Sees::Opens, Sees::Refused, Sees::Refused, Sees::Opens],
    },
    Person {
        login: "carol",
        name: "Carol Chen",
        about: "in 150 groups, Vault keepers last",
        email_verified: true,
        groups: [&["Everyone"], &["Vault keepers"]],
        projects: 148,
        sees: [Sees::Opens, Sees::Refused, Sees::Opens, Sees::Opens],
    },
    Person {
        login: "zed",
        name: "Zed Zhang",
        about: "newcomer: in no group at all",
        email_verified: true,
        groups: [&[], &[]],
        projects: 0,
        sees: [Sees::Opens, Sees::Refused, Sees::Refused, Sees::Opens],
    },
    Person {
        login: "una",
        name: "Una Ulm",
        about: "her address is not verified",
        email_verified: false,
        groups: [&["Everyone", "Engineering"], &[]],
        projects: 0,
        sees: [Sees::NoLogin, Sees::NoLogin, Sees::NoLogin, Sees::Opens],
    },
];

impl Person {
    /// Who has this login.
    pub(super) fn by_login(login: &str) -> Option<&'static Self> {
        PEOPLE.iter().find(|person| person.login == login)
    }

    /// Who has this subject.
    pub(super) fn by_subject(subject: &str) -> Option<&'static Self> {
        PEOPLE.iter().find(|person| person.subject() == subject)
    }

    /// The provider's own id for them, in Okta's form of twenty characters.
    pub(super) fn subject(&self) -> String {
        format!("00udemo{:0>13}", self.login)
    }

    pub(super) fn email(&self) -> String {
        format!("{}@demo.example", self.login)
    }

    /// All their groups, in the directory's order.
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

    /// What a login gets them, by name.
    pub(super) fn opens(&self) -> Vec<&'static str> {
        let opens = |(sees, application): &(&Sees, &Application)| {
            **sees == Sees::Opens && application.is_guarded()
        };
        self.sees
            .iter()
            .zip(&APPLICATIONS)
            .filter(opens)
            .map(|(_, application)| application.name)
            .collect()
    }
}

impl Application {
    /// Whether anybody has to log in for it.
    pub(super) fn is_guarded(&self) -> bool {
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

impl fmt::Display for Sees {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Opens => "opens",
            Self::Refused => "refused",
            Self::NoLogin => "no login",
        })
    }
}
