//! A desktop that sends the client elsewhere. The client never hears where: if it is a desktop that the gateway knows and the
//! user may use, the client is sent back to the gateway, and let in there as by any other connection.

use std::net::IpAddr;
use std::time::Instant;

use deskreel_config::{Credentials, WindowsDesktop};
use deskreel_policy::{Identity, ProvenBy};
use deskreel_rdp::wire::redirection::{Redirection, Return};
use deskreel_rdp::wire::x224::return_token;
use time::OffsetDateTime;
use tracing::info;
use zeroize::Zeroizing;

use super::state::Relay;
use crate::access::View;
use crate::credentials::NewTicket;
use crate::gateway::end::{EndReason, Ended};
use crate::gateway::grant::Grant;
use crate::gateway::handover::{HOPS_MAX, Handover, LIFE};
use crate::gateway::judge::{Asked, judge};
use crate::gateway::name::split_domain;
use crate::gateway::prove;

/// UTF-16 units that FreeRDP takes as name and domain in a redirection, without the terminating zero.
const NAME_UNITS_MAX: usize = 255;
const DOMAIN_UNITS_MAX: usize = 25;

/// The last PDUs for the client.
pub(super) type Words = Vec<Zeroizing<Vec<u8>>>;

impl Relay {
    /// What the client is told last, and how the session ends then.
    pub(super) async fn last_words(&self, ended: Ended) -> (Ended, Words) {
        let ended = match self.redirected.get() {
            Some(redirection) if ended.reason == EndReason::RedirectRefused => {
                match self.send_back(redirection).await {
                    Ok(sent) => return sent,
                    Err(ended) => ended,
                }
            }
            _ => ended,
        };
        let words = match ended.reason.error_info() {
            Some(code) => self.phases().error_info(code),
            None => Vec::new(),
        };
        (ended, words.into_iter().map(Zeroizing::new).collect())
    }

    async fn send_back(&self, redirection: &Redirection) -> Result<(Ended, Words), Ended> {
        let target = redirection.target();
        let refuse = |why: String| {
            let detail = format!("desktop {} redirects the client to {target}: {why}", self.desktop);
            Ended::new(EndReason::RedirectRefused, detail)
        };
        let Some(grant) = self.grant.get() else {
            return Err(refuse("nobody has logged on yet".to_owned()));
        };
        let hops = self.handover.as_ref().map_or(0, |handover| handover.hops) + 1;
        if hops > HOPS_MAX {
            return Err(refuse(format!("{HOPS_MAX} redirections have led here already")));
        }
        let now = OffsetDateTime::now_utc();
        let view = self.shared.access.view();
        let name = find(&view, redirection, &self.resource, now).map_err(refuse)?;
        let is_here = name == self.resource.name;
        if !is_here && is_by_ticket(grant) {
            let why = format!("that is desktop {name}, and a ticket lets into its one desktop only");
            return Err(refuse(why));
        }
        let asked = Asked {
            user: grant.user.clone(),
            identity: grant.decision.identity,
            login: Some(grant.login.clone()),
            own_login: grant.user.clone(),
            source: self.peer.ip(),
            leaves: true,
        };
        // The decision about the other desktop is no fact of this session.
        let judged = judge(&self.shared, &view, &asked, &name, view.desktop(&name, now))
            .map_err(|refusal| refuse(refusal.ended.to_string()))?;
        if judged.takes_own_password() && matches!(self.resource.gateway.credentials, Credentials::Logins(_)) {
            let why = format!("desktop {name} would get the user's own password, which this one never had");
            return Err(refuse(why));
        }
        let (user_name, domain) = log_on_as(grant, &name);
        let units = |text: &str| text.encode_utf16().count();
        if units(&user_name) > NAME_UNITS_MAX || domain.is_some_and(|domain| units(domain) > DOMAIN_UNITS_MAX) {
            return Err(refuse(format!("a client takes no name as long as {user_name:?}")));
        }
        let handover = Handover {
            session: self.id,
            user: grant.user.clone(),
            desktop: name.clone(),
            // It is meant for what stands before this desktop.
            routing_token: redirection.routing_token.clone().filter(|_| is_here),
            hops,
            before: self.before.clone(),
        };
        let Some(number) = self.shared.handovers.expect(handover, Instant::now()) else {
            return Err(refuse("too many clients are on their way back".to_owned()));
        };
        let secret = self.ticket(grant, &name).await?;
        let pdus = self.phases().redirect(&Return {
            routing_token: &return_token(&name, &number),
            user_name: &user_name,
            domain,
            password: secret.as_ref().map(|secret| secret.as_str()),
        });
        if pdus.is_empty() {
            return Err(refuse("the client is not connected that far".to_owned()));
        }
        info!(
            target_name = target,
            to = name,
            "client is sent back for another desktop"
        );
        let detail = format!(
            "desktop {} redirected the client to {target}; the gateway sent it back for desktop {name}",
            self.desktop
        );
        let words = pdus.into_iter().map(Zeroizing::new).collect();
        Ok((Ended::new(EndReason::Redirected, detail), words))
    }

    /// Who came with a ticket has used it up, and gets another one. The password of everybody else is still with the client.
    async fn ticket(&self, grant: &Grant, desktop: &str) -> Result<Option<Zeroizing<String>>, Ended> {
        if !is_by_ticket(grant) {
            return Ok(None);
        }
        let new = NewTicket {
            user: grant.user.clone(),
            desktop: desktop.to_owned(),
            login: Some(grant.login.clone()),
            ttl: LIFE,
        };
        let issued = prove::with_store(&self.shared, move |store| store.issue_ticket(new)).await;
        issued.map(|(_, secret)| Some(secret)).map_err(|ended| {
            let detail = format!("a ticket for the redirected client: {}", ended.detail);
            Ended::new(EndReason::RedirectRefused, detail)
        })
    }
}

fn is_by_ticket(grant: &Grant) -> bool {
    matches!(grant.decision.identity, Identity::Proven { by: ProvenBy::Ticket })
}

/// Name and domain that say who comes back, for which desktop, as whom.
fn log_on_as<'a>(grant: &'a Grant, desktop: &str) -> (String, Option<&'a str>) {
    let (domain, login) = split_domain(&grant.login);
    if login.to_lowercase() == grant.user.to_lowercase() {
        return (format!("{}:{desktop}", grant.user), domain);
    }
    (format!("{}:{desktop}:{}", grant.user, grant.login), None)
}

/// The desktop that is meant: the one that bears the machine's name or address, most telling first, and of several the one
/// with the port of `here`. With a token for a load balancer it may be `here` again.
fn find(view: &View, redirection: &Redirection, here: &WindowsDesktop, now: OffsetDateTime) -> Result<String, String> {
    let port = |addr: &str| addr.rsplit_once(':').map(|(_, port)| port.to_owned());
    let names = [&redirection.fqdn, &redirection.netbios_name, &redirection.address];
    for name in names.into_iter().flatten() {
        let known = view.desktops.values().filter(|desktop| desktop.is_there(now));
        let mut found: Vec<&WindowsDesktop> = known.map(|desktop| &*desktop.resource).collect();
        found.retain(|desktop| is_called(desktop, name));
        if found.len() > 1 {
            found.retain(|desktop| port(&desktop.addr) == port(&here.addr));
            if found.len() != 1 {
                return Err(format!("several desktops are at {name}"));
            }
        }
        if let [only] = found.as_slice() {
            return Ok(only.name.clone());
        }
    }
    if redirection.routing_token.is_some() {
        return Ok(here.name.clone());
    }
    Err("no desktop has this name or address".to_owned())
}

/// Whether `name` is the desktop's own, or that of its machine.
fn is_called(desktop: &WindowsDesktop, name: &str) -> bool {
    let host = desktop.addr.rsplit_once(':').map_or(&*desktop.addr, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = |text: &str| text.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    let same_address = address(name).is_some_and(|name| address(host) == Some(name));
    same_address || host.eq_ignore_ascii_case(name) || desktop.name.eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::access::Snapshot;
    use crate::gateway::grant::testing::everything;

    fn desktop(name: &str, addr: &str) -> WindowsDesktop {
        WindowsDesktop {
            name: name.to_owned(),
            addr: addr.to_owned(),
            ..WindowsDesktop::default()
        }
    }

    #[test]
    fn the_desktop_that_is_meant() {
        let now = OffsetDateTime::now_utc();
        let known = [
            desktop("lab", "10.0.0.1:3389"),
            desktop("host7", "10.0.0.7:3389"),
            desktop("host7-admin", "10.0.0.7:3390"),
            desktop("six", "[fd00::6]:3389"),
            desktop("eight", "host8.corp.example:3389"),
            desktop("nine-a", "10.0.0.9:1"),
            desktop("nine-b", "10.0.0.9:2"),
        ];
        let mut view = Snapshot::built_in().view(now);
        view.add(&known);
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let ask = |fqdn: &str, netbios: &str, address: &str, token: &str| {
            let redirection = Redirection {
                fqdn: some(fqdn),
                netbios_name: some(netbios),
                address: some(address),
                routing_token: some(token),
                ..Redirection::default()
            };
            find(&view, &redirection, &known[0], now)
        };
        assert_eq!(ask("HOST8.corp.example", "", "", "").unwrap(), "eight");
        assert_eq!(ask("host7.corp.example", "HOST7", "", "").unwrap(), "host7");
        // of two at the same address, the one with the port of the desktop that redirects
        assert_eq!(ask("", "", "10.0.0.7", "").unwrap(), "host7");
        assert_eq!(ask("", "", "::ffff:10.0.0.7", "").unwrap(), "host7");
        assert_eq!(ask("", "", "fd00:0::6", "").unwrap(), "six");
        assert_eq!(ask("nowhere", "nobody", "10.0.0.1", "").unwrap(), "lab");
        assert!(ask("", "", "10.0.0.9", "").unwrap_err().contains("several"));
        assert!(ask("nowhere", "", "10.9.9.9", "").unwrap_err().contains("no desktop"));
        // a load balancer's word leads to the same address
        assert_eq!(ask("nowhere", "", "", "tsv://farm").unwrap(), "lab");
        assert_eq!(ask("", "host7", "", "tsv://farm").unwrap(), "host7");
        assert!(ask("", "", "", "").is_err());
    }

    #[test]
    fn who_comes_back_as_whom() {
        for (user, login, expected) in [
            ("ann", "ann", ("ann:lab", None)),
            ("ann", "CORP\\Ann", ("ann:lab", Some("CORP"))),
            ("ann", "root", ("ann:lab:root", None)),
            ("ann", "CORP\\root", ("ann:lab:CORP\\root", None)),
        ] {
            let grant = Grant {
                user: user.to_owned(),
                login: login.to_owned(),
                labels: std::collections::BTreeMap::new(),
                decision: everything(deskreel_config::ClusterMode::Off, deskreel_config::OnFailure::Strict),
            };
            let (name, domain) = log_on_as(&grant, "lab");
            assert_eq!((name.as_str(), domain), expected, "{login}");
        }
    }
}
