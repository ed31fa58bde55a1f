//! The options of a running mount: what they are, where they come from, and their change while it is used.
//!
//! `fetchfs set` and SIGHUP change options here. **All or nothing**: everything is checked, and every file read, before
//! the first option changes. What was set by `fetchfs set` is not changed by a file that is read again.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::cache::{Cache, NewSize};
use crate::config::{
    CHANGEABLE, Changeable, InForce, MountConfig, OptionSources, OptionValue, RemountSplit, ValueOrigin, first_line,
    option_named, read_netrc,
};
use crate::control::Options;
use crate::control::protocol::OptionShown;
use crate::fuse::ScanSettings;
use crate::http::{AccessConfig, Login, Secret, TokenSource};
use crate::logging;
use crate::origin::Client;
use crate::util::events;
use crate::vfs::Tree;

/// Options that each source of a library has for itself, so that they are in its file.
const OF_SOURCES: [&str; 5] = [
    "attr_ttl",
    "bearer_token_file",
    "max_connections",
    "netrc_file",
    "password_file",
];

/// The options of a running mount.
pub(super) struct Settings {
    cache: Arc<Cache>,
    client: Client,
    tree: Arc<Tree>,
    scans: Arc<ScanSettings>,
    /// What the options were made of; `None` if a Rust program serves the mount.
    sources: Option<OptionSources>,
    /// With what the mount began; `None` likewise.
    in_force: Option<InForce>,
    /// The user that the URL of a source names, and whether the URL has the password too.
    user_in_url: Option<(String, bool)>,
    is_library: bool,
    /// Held while options change, so that one change is carried out at a time.
    state: Mutex<State>,
}

struct State {
    current: Changeable,
    values: Vec<OptionValue>,
}

/// A change that was checked and can't fail any more.
struct Checked {
    next: Changeable,
    size: NewSize,
    access: Option<AccessConfig>,
}

impl Settings {
    pub(super) fn new(
        config: &MountConfig,
        cache: &Arc<Cache>,
        client: &Client,
        tree: &Arc<Tree>,
        scans: Arc<ScanSettings>,
    ) -> Settings {
        let current = Changeable::of(config);
        let (sources, in_force, values) = match &config.options {
            Some(options) => (
                Some(options.sources.clone()),
                Some(options.in_force.clone()),
                options.values.clone(),
            ),
            None => {
                let value = |name: &&str| OptionValue {
                    name: (*name).to_owned(),
                    value: current.value(name),
                    origin: ValueOrigin::Program,
                };
                (None, None, CHANGEABLE.iter().map(value).collect())
            }
        };
        let users = config.sources.iter().map(|source| &source.url);
        let named = users.filter(|url| !url.username().is_empty()).map(|url| {
            let user = percent_encoding::percent_decode_str(url.username()).decode_utf8_lossy();
            (user.into_owned(), url.password().is_some())
        });
        Settings {
            cache: Arc::clone(cache),
            client: client.clone(),
            tree: Arc::clone(tree),
            scans,
            sources,
            in_force,
            user_in_url: named.into_iter().next(),
            is_library: config.library.is_some(),
            state: Mutex::new(State { current, values }),
        }
    }

    /// Reads the config file and the file of a library again, and changes what can change. Reads the files of credentials
    /// again too. Blocks.
    ///
    /// # Errors
    /// Why nothing has changed, which is logged.
    pub(super) fn read_again(&self) -> Result<(), String> {
        let outcome = self.take_over();
        if let Err(why) = &outcome {
            log::error!(event = events::RELOAD_FAILED; "{why}; the options stay as they were");
        }
        outcome
    }

    fn take_over(&self) -> Result<(), String> {
        let Some(sources) = &self.sources else { return Ok(()) };
        let mut state = self.state.lock();
        let (args, values) = sources.read_again().map_err(|error| error.to_string())?;
        let mut next = state.current.clone();
        let mut changed = Vec::new();
        for value in &values {
            let known = state.values.iter().find(|known| known.name == value.name);
            let is_set = known.is_some_and(|known| known.origin == ValueOrigin::Set);
            let can_change =
                CHANGEABLE.contains(&value.name.as_str()) && !(self.is_library && is_of_sources(&value.name));
            if !can_change || is_set {
                continue;
            }
            // Relative paths of the command line have no meaning here any more.
            if known.is_none_or(|known| known.value != value.value) {
                next.take(&value.name, &args);
            }
            changed.push(value.clone());
        }
        let checked = self.check(&state.current, next, &[], true)?;
        self.apply(&mut state, checked);
        for value in changed {
            match state.values.iter_mut().find(|known| known.name == value.name) {
                Some(known) => *known = value,
                None => state.values.push(value),
            }
        }
        Ok(())
    }

    /// Checks a change, and reads the files that it names. With `reads_again` those that are the same, too.
    fn check(
        &self,
        current: &Changeable,
        next: Changeable,
        named: &[&str],
        reads_again: bool,
    ) -> Result<Checked, String> {
        if self.is_library
            && let Some(name) = named.iter().find(|name| is_of_sources(name))
        {
            return Err(format!(
                "`{name}`: each source of a library has its own; change the library's file, then `fetchfs reload`"
            ));
        }
        let size = self
            .cache
            .check_size(next.cache_size, next.min_free, next.max_connections.into())
            .map_err(|error| error.to_string())?;
        let is_named = |name: &str| named.contains(&name) || reads_again;
        let mut access = self.client.access();
        if let Some(path) = next.password_file.as_deref().filter(|_| is_named("password_file")) {
            access.login = Some(self.login(&access, path)?);
        }
        if let Some(path) = next.netrc_file.as_deref().filter(|_| is_named("netrc_file")) {
            access.netrc = read_netrc(path).map_err(|error| error.to_string())?;
        }
        if let Some(path) = next
            .bearer_token_file
            .as_deref()
            .filter(|_| is_named("bearer_token_file"))
        {
            first_line("bearer_token_file", path).map_err(|error| error.to_string())?;
            access.token = Some(TokenSource::File(path.to_owned()));
        }
        let reads_token = next.bearer_token_file.is_some() && is_named("bearer_token_file");
        let is_changed =
            reads_token || access != self.client.access() || next.max_connections != current.max_connections;
        Ok(Checked {
            next,
            size,
            access: (is_changed && !self.is_library).then_some(access),
        })
    }

    /// The login with the password in a file.
    fn login(&self, access: &AccessConfig, path: &Path) -> Result<Login, String> {
        if self.user_in_url.as_ref().is_some_and(|(_, has_password)| *has_password) {
            return Err(
                "`password_file`: the URL of the source has the password, which counts; mount it without".to_owned(),
            );
        }
        let user = access.login.as_ref().map(|login| login.user.clone());
        let user = user.or_else(|| self.user_in_url.as_ref().map(|(user, _)| user.clone()));
        let Some(user) = user else {
            return Err("`password_file`: the user name is missing; mount with --login NAME".to_owned());
        };
        let password = first_line("password_file", path).map_err(|error| error.to_string())?;
        Ok(Login {
            user,
            password: Secret::new(password),
        })
    }

    fn apply(&self, state: &mut State, checked: Checked) {
        let Checked { next, size, access } = checked;
        let before = std::mem::replace(&mut state.current, next);
        let now = &state.current;
        if (now.cache_size, now.min_free, now.max_connections)
            != (before.cache_size, before.min_free, before.max_connections)
        {
            self.cache.resize(size);
        }
        if let Some(access) = access {
            self.client.change_own(now.max_connections.into(), access);
        }
        if now.bwlimit != before.bwlimit {
            self.cache.set_bandwidth(now.bwlimit.clone());
        }
        if now.read_ahead != before.read_ahead {
            self.cache.set_read_ahead(now.read_ahead);
        }
        if now.offline != before.offline {
            self.client.set_offline(now.offline);
            // What a server was asked for without the network is asked for again.
            self.tree.refresh();
        }
        if now.attr_ttl != before.attr_ttl {
            self.tree.set_ttl(now.attr_ttl);
        }
        self.scans.set(now.scan_policy, now.scan_limit);
        if now.verbose != before.verbose {
            logging::set_verbosity(now.verbose);
        }
        for name in CHANGEABLE {
            let (was, is) = (before.value(name), now.value(name));
            if was != is {
                let shown = |value: Option<String>| value.unwrap_or_else(|| "the default".to_owned());
                log::info!(event = events::OPTION_CHANGED; "{name} is {} now; it was {}", shown(is), shown(was));
            }
        }
    }

    /// An option for the user. What has no value is shown as it is in force, if that is known.
    fn shown(&self, value: &OptionValue) -> OptionShown {
        let in_force = || match value.name.as_str() {
            "cache_size" => Some(self.cache.limit().to_string()),
            "min_free" => self.cache.min_free().map(|bytes| bytes.to_string()),
            "cache_dir" => Some(self.cache.folder().display().to_string()),
            "bwlimit" => Some("off".to_owned()),
            _ => None,
        };
        let (from, place) = origin(&value.origin);
        let can_change = CHANGEABLE.contains(&value.name.as_str())
            && self.sources.is_some()
            && !(self.is_library && is_of_sources(&value.name));
        OptionShown {
            key: value.name.clone(),
            value: value.value.clone().or_else(in_force),
            from: from.to_owned(),
            place,
            can_change,
            note: self.note(&value.name),
        }
    }

    /// Why the value of an option has less effect than it says, if that is so.
    fn note(&self, name: &str) -> Option<String> {
        let shown = |bytes| bytesize::ByteSize(bytes).display().iec().to_string();
        match name {
            "cache_size" => {
                let counts = self.cache.limit_of_others()?;
                Some(format!(
                    "another mount of the cache directory has {}, which counts",
                    shown(counts)
                ))
            }
            "read_ahead" => {
                let most = self.cache.read_ahead_beyond()?;
                Some(format!(
                    "no more than {} are fetched ahead; a larger cache allows more, up to 256 MiB",
                    shown(most)
                ))
            }
            _ => None,
        }
    }

    /// The options with which the mount began.
    ///
    /// # Errors
    /// If a Rust program serves the mount.
    fn started_with(&self) -> Result<&InForce, String> {
        let in_force = self.in_force.as_ref();
        in_force.ok_or_else(|| "a program serves this mount, and its options are the program's".to_owned())
    }

    /// Changes the options of these names to `next`.
    fn change(&self, state: &mut State, next: Changeable, names: Vec<&str>) -> Result<Vec<OptionShown>, String> {
        let checked = self.check(&state.current, next, &names, false)?;
        self.apply(state, checked);
        let mut shown = Vec::new();
        for name in names {
            let value = OptionValue {
                name: name.to_owned(),
                value: state.current.value(name),
                origin: ValueOrigin::Set,
            };
            shown.push(self.shown(&value));
            match state.values.iter_mut().find(|known| known.name == name) {
                Some(known) => *known = value,
                None => state.values.push(value),
            }
        }
        Ok(shown)
    }
}

impl Options for Settings {
    fn get(&self, key: Option<&str>) -> Result<Vec<OptionShown>, String> {
        let key = key.map(option_named).transpose()?;
        let state = self.state.lock();
        let wanted = state
            .values
            .iter()
            .filter(|value| key.as_ref().is_none_or(|key| *key == value.name));
        let shown: Vec<_> = wanted.map(|value| self.shown(value)).collect();
        match key {
            Some(key) if shown.is_empty() => {
                Err(format!("`{key}` is not known here, because a program serves the mount"))
            }
            _ => Ok(shown),
        }
    }

    fn set(&self, assignments: &[String]) -> Result<Vec<OptionShown>, String> {
        self.started_with()?;
        let mut state = self.state.lock();
        let mut next = state.current.clone();
        let mut names: Vec<&str> = Vec::new();
        for assignment in assignments {
            let name = next.assign(assignment)?;
            if names.contains(&name) {
                return Err(format!("`{name}` is there twice; write it once"));
            }
            names.push(name);
        }
        self.change(&mut state, next, names)
    }

    fn remount(&self, options: &[String]) -> Result<Vec<OptionShown>, String> {
        let RemountSplit { assignments, fixed } = self.started_with()?.split(options);
        if !fixed.is_empty() {
            let names: Vec<String> = fixed.iter().map(|name| format!("`{name}`")).collect();
            return Err(format!(
                "{} can't change while mounted; unmount, then mount with the new options",
                names.join(", ")
            ));
        }
        let mut state = self.state.lock();
        let mut next = state.current.clone();
        let mut names: Vec<&str> = Vec::new();
        for assignment in &assignments {
            // A line in fstab and what is typed besides may name one option: the last one counts, as with mount(8).
            let name = next.assign(assignment)?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.retain(|name| next.value(name) != state.current.value(name));
        self.change(&mut state, next, names)
    }
}

fn is_of_sources(name: &str) -> bool {
    OF_SOURCES.contains(&name)
}

/// Where a value comes from, as a word, and the place there.
fn origin(origin: &ValueOrigin) -> (&'static str, Option<String>) {
    let line = |path: &Path, line: usize| Some(format!("{}:{line}", path.display()));
    match origin {
        ValueOrigin::Default => ("default", None),
        ValueOrigin::ConfigFile(path, number) => ("config_file", line(path, *number)),
        ValueOrigin::Library(path, number) => ("library", line(path, *number)),
        ValueOrigin::Environment(variable) => ("environment", Some(variable.clone())),
        ValueOrigin::MountOption => ("mount_option", None),
        ValueOrigin::Flag => ("flag", None),
        ValueOrigin::Set => ("set", None),
        ValueOrigin::Program => ("program", None),
    }
}
