//! The case table through the gate, in this process: each case has the answer that the engine's
//! decision requires.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::cases::{self as table, Case, Mint, World};
use crate::engine::{Origins, ServiceClient};
use crate::keys;
use crate::model::{CleanPath, HostPort};

#[path = "../../tests/fronts/mod.rs"]
mod fronts;

use fronts::{Answer, UnreachableTeam};

#[tokio::test]
async fn every_case_through_the_gate_matches_the_decision() {
    let (world, mint) = (table::world(), fronts::mint());
    let team = UnreachableTeam::new();
    let states: BTreeSet<_> = world.cases.values().map(|case| &case.node).collect();
    let mut gates = BTreeMap::new();
    for state in states {
        let origins = |_: &table::App| Origins::new(());
        let node = fronts::node(&world, &mint, state, &team, origins).await;
        gates.insert(state.clone(), Gate::new(node));
    }
    let mut wrong = Vec::new();
    for (id, case) in &world.cases {
        let expected = fronts::expected(id, case);
        let seen = answer(&gates[&case.node], &world, case, &mint).await;
        if seen != expected {
            wrong.push(format!(
                "{id}: `{}` is due as `{expected}` and came as `{seen}`",
                case.send
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases:\n{}",
        wrong.len(),
        world.cases.len(),
        wrong.join("\n")
    );
}

/// Reads a case as a front does, and returns its answer in the words of [`fronts::expected`].
async fn answer(gate: &Gate, world: &World, case: &Case, mint: &Mint) -> String {
    let (method, host, path, query) = case.target();
    let method = method.parse().unwrap();
    let headers = world.headers(case, mint);
    let client = case.from.unwrap_or(world.client);
    let authority = HostPort::parse(host).map_err(|_| Reason::HostMalformed);
    let path = CleanPath::parse(path).map_err(|_| Reason::PathAmbiguous);
    let reply = match authority.and_then(|authority| Ok((authority, path?))) {
        Err(reason) => gate.reject(
            reason,
            &Malformed {
                method: &method,
                headers: &headers,
                client,
            },
        ),
        Ok((authority, path)) => {
            let request = RequestView {
                method: &method,
                authority,
                path,
                query,
                headers: &headers,
                client,
                tls: None,
            };
            match gate.check(&request, mint.now) {
                Ok(reply) => reply,
                Err(need) => gate.check_after(need, &request, mint.now).await,
            }
        }
    };
    match reply {
        Reply::Forward(forwarded) => arrival(&headers, &forwarded, host, client),
        Reply::Respond(response, _) => describe(&response),
        Reply::Portal(request) => describe(&gate.handle(*request).await),
    }
}

fn describe(response: &Response<Bytes>) -> String {
    let header = |name: &str| response.headers().get(name)?.to_str().ok();
    let answer = Answer {
        status: response.status().as_u16(),
        header: &header,
        body: std::str::from_utf8(response.body()).unwrap(),
    };
    answer.describe()
}

/// Returns the application and the user or service client, as the origin learns them from headers.
fn arrival(sent: &HeaderMap, forwarded: &Forwarded, host: &str, client: IpAddr) -> String {
    let downstream = Downstream {
        authority: Some(host),
        client: Some(client),
        is_tls: true,
    };
    let mut headers = sent.clone();
    HeaderEdits::new(sent, forwarded, downstream)
        .unwrap()
        .apply(&mut headers);
    let one = |name: &str| {
        let mut lines = headers.get_all(name).iter();
        let line = lines.next().map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(lines.next(), None, "{name}");
        line
    };
    assert!(!format!("{headers:?}").contains("the secret of"));
    assert_eq!(one("x-forwarded-for"), Some(client.to_string()));
    let (permit, email) = (&forwarded.permit, one("cf-access-authenticated-user-email"));
    let client = match permit.service_client() {
        Some(ServiceClient::ServiceToken(token)) => Some(token.client_id.as_str().to_owned()),
        _ => None,
    };
    let user = email.or(client);
    assert_eq!(
        user.is_some(),
        one("cf-access-jwt-assertion").is_some(),
        "{headers:?}"
    );
    format!(
        "200 of {} as {}",
        permit.application().settings().name,
        user.as_deref().unwrap_or("anonymous")
    )
}
