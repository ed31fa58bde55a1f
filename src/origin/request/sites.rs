//! Which settings a request is sent with: those of the mount, or those of one source of a library.
//!
//! The settings of a source ([`SiteConfig`]) are for what is at its URL and below it, by the longest path that fits; of
//! what is elsewhere at its server, the first source there counts. They hold for the whole redirect chain of a request.
//! Credentials are sent to the source's own server only, so a target of a redirect that is another source's server gets
//! that source's. The limits of an origin and its health are the same for all sources.

use std::sync::Arc;

use parking_lot::Mutex;
use url::Url;

use crate::http::{
    AccessConfig, CookieJar, HttpConfig, Origin, SetupError, SiteConfig, auth::Access, connect::setup::Connections,
    tag::untagged,
};
use crate::origin::throttle::Throttle;

/// The settings of the mount, or of one source.
pub(crate) struct Site {
    pub(crate) config: HttpConfig,
    pub(crate) access: Access,
    pub(crate) connections: Arc<Connections>,
    /// Sessions are those of a login, so each source has its own.
    pub(crate) cookies: Arc<CookieJar>,
    /// The rate of the source.
    pub(crate) throttle: Option<Arc<Throttle>>,
    /// The source's URL as the user has written it; `None` for the mount.
    source: Option<Url>,
    /// Where the source and its mirrors are. Locked for the moment of a look-up or a change.
    places: Mutex<Vec<Place>>,
}

/// A URL of a source or a mirror.
#[derive(Clone, PartialEq)]
struct Place {
    origin: Origin,
    path: String,
    is_mirror: bool,
}

impl Place {
    fn of(url: &Url, is_mirror: bool) -> Option<Place> {
        Some(Place {
            origin: Origin::of(url)?,
            path: url.path().to_owned(),
            is_mirror,
        })
    }
}

impl Site {
    fn new(config: HttpConfig, source: Option<Url>, others: &[Arc<Site>]) -> Result<Site, SetupError> {
        let same = others.iter().find(|other| connects_alike(&other.config, &config));
        let connections = match same {
            Some(other) => Arc::clone(&other.connections),
            None => Arc::new(Connections::new(&config)?),
        };
        let mirrors = config.mirrors.urls.iter().map(|url| (url, true));
        let places = source.iter().map(|url| (url, false)).chain(mirrors);
        Ok(Site {
            access: Access::new(config.access.clone()),
            cookies: Arc::new(CookieJar::new(&config.cookies)),
            places: Mutex::new(
                places
                    .filter_map(|(url, is_mirror)| Place::of(url, is_mirror))
                    .collect(),
            ),
            throttle: config.bwlimit.clone().map(|limit| Arc::new(Throttle::new(Some(limit)))),
            connections,
            source,
            config,
        })
    }

    /// The same with other connections and credentials. Sessions and connections stay.
    fn changed(&self, max_connections: usize, access: AccessConfig) -> Site {
        Site {
            access: self.access.changed(access.clone()),
            connections: Arc::clone(&self.connections),
            cookies: Arc::clone(&self.cookies),
            throttle: self.throttle.clone(),
            source: self.source.clone(),
            places: Mutex::new(self.places.lock().clone()),
            config: HttpConfig {
                max_connections,
                access,
                ..self.config.clone()
            },
        }
    }

    /// The length of the longest place that the URL is below.
    fn fits(&self, origin: &Origin, path: &str) -> Option<usize> {
        let places = self.places.lock();
        let above = places
            .iter()
            .filter(|place| place.origin == *origin && path.starts_with(&place.path));
        above.map(|place| place.path.len()).max()
    }

    fn is_at(&self, origin: &Origin) -> bool {
        let places = self.places.lock();
        places.iter().any(|place| place.origin == *origin && !place.is_mirror)
    }
}

/// Whether connections by these settings are the same.
fn connects_alike(one: &HttpConfig, other: &HttpConfig) -> bool {
    let of = |config: &HttpConfig| {
        (
            config.connect_timeout,
            config.user_agent.clone(),
            config.bind_address,
            config.proxy.clone(),
            config.protocol,
            config.tls.clone(),
        )
    };
    of(one) == of(other)
}

/// The settings of a mount and its sources.
pub(crate) struct Sites {
    own: Arc<Site>,
    of_sources: Vec<Arc<Site>>,
}

impl Sites {
    /// The settings of a mount, and of those of its sources that have their own.
    ///
    /// # Errors
    /// If a file that a configuration names can't be used.
    pub(super) fn new(config: HttpConfig) -> Result<Sites, SetupError> {
        let sources = config.sites.clone();
        let own = Arc::new(Site::new(config, None, &[])?);
        Sites {
            own,
            of_sources: Vec::new(),
        }
        .with(sources)
    }

    /// The same with these sources. A source whose settings are the same keeps what is known of its logins.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub(super) fn with(&self, sources: Vec<SiteConfig>) -> Result<Sites, SetupError> {
        let mut all = vec![Arc::clone(&self.own)];
        all.extend(self.of_sources.iter().cloned());
        let mut of_sources: Vec<Arc<Site>> = Vec::new();
        for SiteConfig { source, http } in sources {
            let is_same = |site: &&Arc<Site>| site.source.as_ref() == Some(&source) && site.config == http;
            let site = match self.of_sources.iter().find(is_same) {
                Some(same) => Arc::clone(same),
                None => Arc::new(Site::new(http, Some(source), &all)?),
            };
            all.push(Arc::clone(&site));
            of_sources.push(site);
        }
        Ok(Sites {
            own: Arc::clone(&self.own),
            of_sources,
        })
    }

    /// The same with other connections and credentials of the mount.
    pub(super) fn with_own(&self, max_connections: usize, access: AccessConfig) -> Sites {
        Sites {
            own: Arc::new(self.own.changed(max_connections, access)),
            of_sources: self.of_sources.clone(),
        }
    }

    /// The settings of the mount.
    pub(crate) fn own(&self) -> &Site {
        &self.own
    }

    /// The settings for a request for this URL.
    pub(crate) fn of(&self, url: &Url) -> Arc<Site> {
        if self.of_sources.is_empty() {
            return Arc::clone(&self.own);
        }
        let url = untagged(url);
        let Some(origin) = Origin::of(&url) else {
            return Arc::clone(&self.own);
        };
        let fits = |site: &&Arc<Site>| Some((site.fits(&origin, url.path())?, Arc::clone(site)));
        // The first of several that are equally near.
        let nearest = self.of_sources.iter().rev().filter_map(|site| fits(&site));
        let nearest = nearest.max_by_key(|(length, _)| *length).map(|(_, site)| site);
        let first = || self.of_sources.iter().find(|site| site.is_at(&origin)).cloned();
        nearest.or_else(first).unwrap_or_else(|| Arc::clone(&self.own))
    }

    /// The settings for a request to this URL, in the redirect chain of one that was sent with the settings `site`.
    pub(super) fn of_hop(&self, site: &Arc<Site>, url: &Url) -> Arc<Site> {
        if site.access.is_home(url) {
            return Arc::clone(site);
        }
        let other = self.of(url);
        if other.access.is_home(url) {
            other
        } else {
            Arc::clone(site)
        }
    }

    /// A source is requested at `url`, whatever the user has written. Returns it without user and password.
    pub(crate) fn adopt_for(&self, source: &Url, url: Url) -> Url {
        let its = |site: &&Arc<Site>| site.source.as_ref() == Some(source);
        let Some(site) = self.of_sources.iter().find(its) else {
            return self.own.access.adopt(url);
        };
        let url = site.access.adopt(url);
        let mut places = site.places.lock();
        if let Some(place) = Place::of(&url, false).filter(|place| !places.contains(place)) {
            places.push(place);
        }
        drop(places);
        url
    }

    /// The most connections to an origin: the least that a source there allows, and the mount's for any other.
    pub(super) fn most_connections(&self, origin: &Origin) -> usize {
        let there = self.of_sources.iter().filter(|site| site.is_at(origin));
        let least = there.map(|site| site.config.max_connections).min();
        least.unwrap_or(self.own.config.max_connections)
    }

    /// Whether a source has a rate of its own.
    pub(crate) fn has_rates(&self) -> bool {
        self.of_sources.iter().any(|site| site.throttle.is_some())
    }

    /// Whether any of them may use a proxy.
    pub(crate) fn may_use_a_proxy(&self) -> bool {
        let all = self.of_sources.iter().chain([&self.own]);
        all.into_iter().any(|site| site.config.proxy.may_be_one())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Login, Secret};

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn site(source: &str, user: &str, connections: usize) -> SiteConfig {
        let login = Login {
            user: user.to_owned(),
            password: Secret::new("x"),
        };
        let access = AccessConfig {
            login: Some(login),
            ..AccessConfig::default()
        };
        SiteConfig {
            source: url(source),
            http: HttpConfig {
                access,
                max_connections: connections,
                ..HttpConfig::default()
            },
        }
    }

    fn sites(all: &[SiteConfig]) -> Sites {
        let sites = Sites::new(HttpConfig {
            sites: all.to_vec(),
            ..HttpConfig::default()
        })
        .unwrap();
        for site in all {
            sites.adopt_for(&site.source, site.source.clone());
        }
        sites
    }

    fn user_at(sites: &Sites, at: &str) -> Option<String> {
        Some(sites.of(&url(at)).access.login_at(&url(at))?.user)
    }

    #[test]
    fn nearest_source_at_a_server_gives_the_login() {
        let sites = sites(&[
            site("https://h/users/ann/", "ann", 4),
            site("https://h/users/ben/", "ben", 2),
            site("https://h/users/ann/music/", "dj", 8),
        ]);
        let user = |at| user_at(&sites, at);
        assert_eq!(user("https://h/users/ben/x").as_deref(), Some("ben"));
        assert_eq!(user("https://h/users/ann/x").as_deref(), Some("ann"));
        assert_eq!(user("https://h/users/ann/music/x").as_deref(), Some("dj"));
        assert_eq!(
            user("https://h/elsewhere").as_deref(),
            Some("ann"),
            "the first one there"
        );
        assert_eq!(user("https://other/users/ann/x"), None);
        let origin = |at| Origin::of(&url(at)).unwrap();
        assert_eq!(sites.most_connections(&origin("https://h/")), 2);
        assert_eq!(sites.most_connections(&origin("https://other/")), 16);
    }

    #[test]
    fn unchanged_source_keeps_its_state_and_changed_one_does_not() {
        let (ann, ben) = (site("https://h/a/", "ann", 4), site("https://h/b/", "ben", 4));
        let before = sites(&[ann.clone(), ben.clone()]);
        let mut other = ben.clone();
        other.http.max_connections = 1;
        let after = before.with(vec![ann, other]).unwrap();
        let is_same = |at: &str| Arc::ptr_eq(&before.of(&url(at)), &after.of(&url(at)));
        assert!(is_same("https://h/a/x") && !is_same("https://h/b/x"));
        assert!(
            Arc::ptr_eq(
                &before.of(&url("https://h/b/x")).connections,
                &after.of(&url("https://h/b/x")).connections
            ),
            "connections are the same"
        );
    }

    #[test]
    fn login_never_goes_to_another_server() {
        let sites = sites(&[site("https://h/a/", "ann", 4), site("https://g/b/", "ben", 4)]);
        let ann = sites.of(&url("https://h/a/x"));
        let user = |at: &str| {
            let site = sites.of_hop(&ann, &url(at));
            site.access.login_at(&url(at)).map(|login| login.user)
        };
        assert_eq!(user("https://h/moved").as_deref(), Some("ann"));
        assert_eq!(user("https://g/b/x").as_deref(), Some("ben"));
        assert_eq!(user("https://cdn/x"), None);
    }
}
