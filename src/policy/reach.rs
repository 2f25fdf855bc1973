use std::collections::{BTreeSet, HashSet};

use super::rule::{AccessGroup, Policy, Rule};

/// What a service's answer is known by: where it is asked, and where its keys are. What was
/// answered under other keys is the answer of somebody else.
pub fn evaluation_key(evaluate_url: &str, keys_url: &str) -> String {
    // No address has a space.
    format!("{evaluate_url} {keys_url}")
}

/// The services that an application's policies ask at login, also through Access groups: where each
/// is asked, and where its keys are.
pub fn evaluations<'a>(
    policies: impl IntoIterator<Item = &'a Policy>,
    groups: &'a [AccessGroup],
) -> BTreeSet<(&'a str, &'a str)> {
    let (mut found, mut seen) = (BTreeSet::new(), HashSet::new());
    let clauses = policies.into_iter().map(
        |Policy {
             include,
             require,
             exclude,
             ..
         }| [include, require, exclude],
    );
    let mut pending: Vec<&[Rule]> = clauses.flatten().map(Vec::as_slice).collect();
    while let Some(rules) = pending.pop() {
        for rule in rules {
            match rule {
                Rule::ExternalEvaluation {
                    evaluate_url,
                    keys_url,
                } => {
                    found.insert((evaluate_url.as_str(), keys_url.as_str()));
                }
                Rule::Group { id } if seen.insert(id.as_str()) => {
                    let inner = groups.iter().filter(|group| group.id == *id);
                    pending.extend(
                        inner
                            .flat_map(|g| [&g.include, &g.require, &g.exclude])
                            .map(Vec::as_slice),
                    );
                }
                _ => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_asked_through_groups_is_asked_once() {
        let ask =
            |name: &str| json!({"external_evaluation": {"evaluate_url": name, "keys_url": "keys"}});
        let group = |id: &str, include: serde_json::Value| -> AccessGroup {
            serde_json::from_value(json!({"id": id, "name": id, "include": include})).unwrap()
        };
        let groups = [
            group("outer", json!([{"group": {"id": "inner"}}, ask("c")])),
            // A circle, which is refused elsewhere, ends here too.
            group("inner", json!([ask("b"), {"group": {"id": "outer"}}])),
            group("other", json!([ask("never")])),
        ];
        let policies: Vec<Policy> = serde_json::from_value(json!([
            {"name": "a", "decision": "allow", "include": [{"everyone": {}}], "require": [ask("a")]},
            {"name": "d", "decision": "deny", "include": [ask("a")], "exclude": [{"group": {"id": "outer"}}]},
            {"name": "s", "decision": "allow", "include": [ask("s")], "shadow": true},
        ]))
        .unwrap();
        let found: Vec<_> = evaluations(&policies, &groups)
            .into_iter()
            .map(|(url, _)| url)
            .collect();
        assert_eq!(found, ["a", "b", "c", "s"]);
    }
}
