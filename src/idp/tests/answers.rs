//! Error answers in other shapes than RFC 6749 has.

use serde_json::json;

use super::stand_in::{Reply, StandIn, begin, provider};
use super::*;

const TOKEN: &str = "/oauth2/v1/token";

#[tokio::test]
async fn odd_error_answers_keep_their_code() {
    let op = StandIn::start().await;
    let par = "/oauth2/v1/par";
    op.state().metadata["pushed_authorization_request_endpoint"] = json!(format!("{}{par}", op.origin));
    let pushing =
        provider(OktaSettings { client: ClientSettings { pushed_requests: true, ..op.client() }, ..op.settings() });
    for odd in [json!({"error_uri": 7}), json!({"error_description": {"en": "no"}}), json!({"error_description": 7})] {
        let mut answer = json!({"error": "invalid_grant"});
        answer.as_object_mut().unwrap().extend(odd.as_object().unwrap().clone());
        op.reply(TOKEN, &[Reply::json(400, &answer)]);
        let failure = op.login(&op.provider()).await.unwrap_err();
        assert_eq!(failure.to_string(), "the token endpoint answered with 400 Bad Request: invalid_grant", "{odd}");
        assert_eq!(failure.blame(), Blame::Browser);
        op.reply(par, &[Reply::json(400, &answer)]);
        let failure = begin(&pushing).await.unwrap_err();
        let said = "the request of the login was not taken, with 400 Bad Request: invalid_grant";
        assert_eq!(failure.to_string(), said, "{odd}");
    }
    for none in [json!({}), json!({"error": 7}), json!({"error": null, "error_description": ""}), json!([])] {
        op.reply(TOKEN, &[Reply::json(400, &none)]);
        let failure = op.login(&op.provider()).await.unwrap_err();
        assert!(failure.to_string().ends_with("no error code"), "{none}: {failure}");
        op.reply(par, &[Reply::json(400, &none)]);
        let failure = begin(&pushing).await.unwrap_err();
        assert!(failure.to_string().ends_with("no error code"), "{none}: {failure}");
    }
    let words = "The groups claim matched too many groups and must be configured to match fewer groups.";
    op.reply(TOKEN, &[Reply::json(400, &json!({"error": {}, "error_description": words}))]);
    let failure = op.login(&op.provider()).await.unwrap_err();
    assert!(matches!(failure, LoginFailure::Groups(GroupsFailure::Overfull)), "{failure:?}");
}
