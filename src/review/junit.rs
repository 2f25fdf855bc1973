use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::ask::World;
use super::suite::{Ended, Failure, Suite};
use super::view::View;

/// Writes the results of test files for CI systems, in JUnit's XML.
///
/// # Errors
///
/// XML cannot represent a text in it.
pub fn junit(files: &[(&Suite, &World, Vec<Ended>)]) -> Result<String, String> {
    let mut report = Report::new("portcullis test");
    for (suite, world, ended) in files {
        let mut tests = TestSuite::new(suite.file().display().to_string());
        for test in ended {
            let status = match &test.failure {
                None => TestCaseStatus::success(),
                Some(failure) => {
                    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                    let (message, detail) = match failure {
                        Failure::Malformed(message) => (message.clone(), String::new()),
                        Failure::Otherwise(answer, was) => (
                            format!("expected {}, was {was}", test.expected),
                            View::new(world, answer).to_string(),
                        ),
                    };
                    status.set_message(message).set_description(detail);
                    status
                }
            };
            let mut case = TestCase::new(test.name.clone(), status);
            case.set_classname(suite.file().display().to_string())
                .add_property(("line", test.line.to_string().as_str()));
            tests.add_test_case(case);
        }
        report.add_test_suite(tests);
    }
    report.to_string().map_err(|e| e.to_string())
}
