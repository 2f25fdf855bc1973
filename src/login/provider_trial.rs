use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cookie::SealingKey;
use crate::model::{IdpId, UnixTime};

/// Permission to test an identity provider (`docs/wire.md` 2.8): ten minutes, for anyone with the
/// link. It opens no session.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TrialLink {
    #[serde(rename = "i")]
    idp: IdpId,
    #[serde(rename = "t")]
    expires: UnixTime,
}

impl TrialLink {
    // Time for an operator to open the link in a browser and log in. Anyone who has the link may
    // use it.
    pub(crate) const LIFETIME: Duration = Duration::from_secs(600);

    /// `https://<team domain>/cdn-cgi/access/test-idp/<id>?link=…`
    #[cfg(any(test, feature = "standalone"))]
    pub(crate) fn url(
        key: &SealingKey,
        team_url: &str,
        idp: &IdpId,
        now: UnixTime,
    ) -> Result<String, crate::cookie::SealError> {
        let link = key.seal(
            PURPOSE,
            &Self {
                idp: idp.clone(),
                expires: now.after(Self::LIFETIME),
            },
        )?;
        Ok(format!(
            "{team_url}{}/test-idp/{}?link={link}",
            crate::route::Endpoint::PREFIX,
            idp.0
        ))
    }

    /// Returns `true` if a link permits a test of that provider now.
    pub(crate) fn is_valid(key: &SealingKey, text: &str, idp: &IdpId, now: UnixTime) -> bool {
        // The clock of the process that made the link may be ahead, but no link lasts longer.
        let permits = |link: Self| {
            link.idp == *idp && now < link.expires && link.expires <= now.after(Self::LIFETIME * 2)
        };
        key.open(PURPOSE, text).is_ok_and(permits)
    }
}

// Part of the sealed value, so that no other sealed text is a link.
const PURPOSE: &str = "test-idp";

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    #[test]
    fn link_is_valid_for_one_provider_and_ten_minutes() {
        let key = SealingKey::new(&[1; 32]).unwrap();
        let (okta, other) = (IdpId("okta".into()), IdpId("other".into()));
        let url = TrialLink::url(&key, "https://access.example.com", &okta, NOW).unwrap();
        let link = url
            .strip_prefix("https://access.example.com/cdn-cgi/access/test-idp/okta?link=")
            .unwrap();
        let is_valid = |text: &str, idp: &IdpId, now| TrialLink::is_valid(&key, text, idp, now);
        assert!(is_valid(link, &okta, NOW) && is_valid(link, &okta, UnixTime(NOW.0 + 599)));
        assert!(!is_valid(link, &okta, UnixTime(NOW.0 + 600)), "too late");
        assert!(
            !is_valid(link, &okta, UnixTime(NOW.0 - 601)),
            "longer than any link lasts"
        );
        assert!(!is_valid(link, &other, NOW));
        assert!(!is_valid("", &okta, NOW) && !is_valid(&format!("{link}A"), &okta, NOW));
        assert!(
            !TrialLink::is_valid(&SealingKey::new(&[2; 32]).unwrap(), link, &okta, NOW),
            "another team's"
        );
        let state = key
            .seal(
                "state",
                &TrialLink {
                    idp: okta.clone(),
                    expires: NOW.after(TrialLink::LIFETIME),
                },
            )
            .unwrap();
        assert!(!is_valid(&state, &okta, NOW), "sealed for something else");
    }
}
