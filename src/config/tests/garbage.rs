//! Arbitrary input.

use proptest::prelude::*;

use super::*;

#[test]
fn deep_and_long_input_is_rejected() {
    for text in [
        format!("{} = 1", vec!["a"; 20_000].join(".")),
        format!("[{}]", vec!["a"; 20_000].join(".")),
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}1{}", "{a=".repeat(10_000), "}".repeat(10_000)),
        "[[applications]]\n".repeat(10_000),
        "\u{0}".repeat(10_000),
    ] {
        let errors = read(&text).unwrap_err();
        assert!(
            !errors.0.is_empty() && errors.0.len() <= 500,
            "{}",
            errors.0.len()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn garbage_never_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, "[\\[\\]{}=\"'.,*@:/a-z0-9\n é-]{0,6}"), 1..6),
        uncommented in any::<bool>(),
    ) {
        let mut text: Vec<char> = if uncommented { EXAMPLE.replace("\n# ", "\n") } else { EXAMPLE.to_owned() }.chars().collect();
        for (at, drop, insert) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + drop).min(text.len());
            text.splice(at..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        match read(&text) {
            Ok(loaded) => prop_assert!(!loaded.config.listen.is_empty()),
            Err(errors) => {
                prop_assert!(!errors.0.is_empty());
                for problem in &errors.0 {
                    prop_assert_eq!(problem.to_string().lines().count(), 1);
                    let (line, column) = problem.position.unwrap();
                    prop_assert!(line >= 1 && column >= 1 && line <= text.matches('\n').count() + 1);
                }
            }
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        let _ = read(&text);
        let _ = (Domain::parse(&text), Origin::parse(&text));
    }
}
