//! The remedies of `idp check` for an API token.

use serde_json::json;

use super::stand_in::{Reply, StandIn, http};
use super::*;
use crate::idp::check::{Status, Step};

const ME: &str = "/api/v1/users/me";
const GROUPS: &str = "/api/v1/users/00u1/groups";

async fn findings(op: &StandIn) -> Vec<Finding> {
    let mut findings = Vec::new();
    op.provider_with_token()
        .check(&http(), NOW, &mut |finding| findings.push(finding))
        .await;
    findings
}

fn of(findings: &[Finding], step: Step) -> (Status, String, String) {
    let found = findings
        .iter()
        .find(|finding| finding.step == step)
        .unwrap_or_else(|| panic!("{findings:#?}"));
    (
        found.outcome,
        found.found.clone(),
        found.advice.clone().unwrap_or_default().into_owned(),
    )
}

#[tokio::test]
async fn api_without_the_token_owner_is_at_another_url() {
    let op = StandIn::start().await;
    let not_found = Reply::json(404, &json!({"errorCode": "E0000007"}));
    for reply in [Reply::html(404), not_found] {
        op.reply(ME, &[reply]);
        let findings = findings(&op).await;
        let (outcome, found, advice) = of(&findings, Step::ApiToken);
        assert!(
            outcome == Status::Failed && found.contains("404"),
            "{findings:#?}"
        );
        assert!(
            advice.contains("not at that URL") && advice.contains("`okta_account`"),
            "{advice}"
        );
        assert!(
            !advice.contains("subject"),
            "no user has logged in: {advice}"
        );
        assert_eq!(of(&findings, Step::Groups).0, Status::Skipped);
    }
}

#[tokio::test]
async fn api_token_advice_is_that_of_its_failure() {
    let op = StandIn::start().await;
    for (reply, words) in [
        (
            Reply::json(401, &json!({"errorCode": "E0000011"})),
            "create a new one",
        ),
        (
            Reply::json(403, &json!({"errorCode": "E0000006"})),
            "read-only administrator",
        ),
        (Reply::html(403), "ThreatInsight"),
        (Reply::html(200), "ThreatInsight"),
    ] {
        op.reply(ME, &[reply]);
        let findings = findings(&op).await;
        let (outcome, _, advice) = of(&findings, Step::ApiToken);
        assert!(
            outcome == Status::Failed && advice.contains(words),
            "{words}: {findings:#?}"
        );
    }
    let owner = json!({"id": "00u1", "status": "ACTIVE", "profile": {"login": "zero@example.com"}});
    op.reply(ME, &[Reply::json(200, &owner)]);
    let good = findings(&op).await;
    assert_eq!(
        (of(&good, Step::ApiToken).0, of(&good, Step::Groups).0),
        (Status::Good, Status::Good),
        "{good:#?}"
    );
    // The owner exists, so a missing list of groups is about the owner.
    op.reply(
        GROUPS,
        &[Reply::json(404, &json!({"errorCode": "E0000007"}))],
    );
    let findings = findings(&op).await;
    assert_eq!(
        of(&findings, Step::Groups).0,
        Status::Failed,
        "{findings:#?}"
    );
}
