//! Files larger than anybody writes by hand.

use std::fmt::Write as _;

use super::{ApplicationPolicy, complete, read};
use crate::policy::Rule;

#[test]
fn a_hundred_thousand_rules_are_read_and_compiled() {
    let mut rules = String::new();
    (0..100_000).for_each(|i| write!(rules, "{{email={{email='{i}@b.c'}}}},").unwrap());
    let text = format!(
        "[[applications]]\ndomain = \"a.example.com\"\norigin = \"http://127.0.0.1:1\"\npolicies = [{{ name = \"x\", decision = \"allow\", include = [{rules}] }}]"
    );
    let config = read(&complete(&text)).unwrap().config;
    let ApplicationPolicy::Own(policy) = &config.catalog.applications[0].policies[0] else {
        panic!()
    };
    assert_eq!(policy.include.len(), 100_000);
    // More than the file may hold is said, not tried.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("large.toml");
    std::fs::write(&file, format!("# {}", "x".repeat(4 << 20))).unwrap();
    let error = super::super::load(&file, &super::super::System)
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("large.toml: the file is larger than 4 MiB"),
        "{error}"
    );
}

#[test]
fn many_policies_are_read_in_time() {
    let mut policies = String::new();
    (0..20_000).for_each(|i| {
        write!(
            policies,
            "{{name='{i}',decision='allow',include=[{{email={{email='{i}@b.c'}}}}]}},"
        )
        .unwrap()
    });
    let text = format!(
        "[[applications]]\ndomain = \"a.example.com\"\norigin = \"http://127.0.0.1:1\"\npolicies = [{policies}]"
    );
    assert_eq!(
        read(&complete(&text)).unwrap().config.catalog.applications[0]
            .policies
            .len(),
        20_000
    );
}

#[test]
fn a_thousand_groups_in_each_other_are_good_and_a_ring_of_them_is_not() {
    let groups = |last: &str| {
        let mut text = String::new();
        for i in 0..1_000 {
            let next = if i == 999 {
                last.to_owned()
            } else {
                format!("{{ group = {{ id = \"g{}\" }} }}", i + 1)
            };
            writeln!(text, "[[groups]]\nid = \"g{i}\"\ninclude = [{next}]").unwrap();
        }
        complete(&text)
    };
    let config = read(&groups("{ everyone = {} }")).unwrap().config;
    assert_eq!(
        (
            config.catalog.groups.len(),
            &config.catalog.groups[999].include
        ),
        (1_000, &vec![Rule::Everyone {}])
    );
    let errors = read(&groups("{ group = { id = \"g0\" } }")).unwrap_err();
    assert!(
        errors
            .to_string()
            .contains("this group contains itself: g0 → g1"),
        "{errors}"
    );
    assert_eq!(errors.0.len(), 1);
}

#[test]
fn values_in_values_end_somewhere() {
    let deep = format!("a = {}1{}", "[".repeat(5_000), "]".repeat(5_000));
    for rule in [&*deep, "email = { email = { email = { email = {} } } }"] {
        let text = format!("[[groups]]\nid = \"g\"\ninclude = [{{ {rule} }}]");
        assert!(read(&complete(&text)).is_err());
    }
}
