//! AWS's settings: variables, `~/.aws/config` and `~/.aws/credentials`, with the precedence of the AWS CLI.
//!
//! An option wins over a variable, and a variable over the files. `--profile` rules out the keys in variables.

use std::collections::HashMap;
use std::path::Path;

use url::Url;

use super::{AddressingStyle, S3Config};
use crate::http::Secret;

/// The region if nothing names one.
const DEFAULT_REGION: &str = "us-east-1";

/// The keys that sign requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    /// Names the secret key. No secret.
    pub(super) access_key: String,
    /// Signs.
    pub(super) secret_key: Secret,
    /// Of temporary keys.
    pub(super) session_token: Option<Secret>,
}

/// Where the keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeySource {
    /// Requests are not signed.
    Unsigned,
    /// From the variables, or from the files as they are now.
    Given(Credentials),
    /// From a command of the user.
    Process {
        /// The command line. It may contain secrets.
        command: Secret,
        /// The profile that names it.
        profile: String,
    },
}

/// What is known of the service and the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// The region.
    pub(super) region: String,
    /// URL of the service, if it is not Amazon's.
    pub(super) endpoint: Option<Url>,
    /// Where the bucket's name is sent.
    pub(super) style: AddressingStyle,
    /// An error if there are no keys to sign requests.
    pub(super) keys: Result<KeySource, String>,
}

/// Where variables and files are read.
pub(super) struct Environment<'a> {
    /// The value of a variable, if it is set.
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
    /// The directory that relative paths of the variables are in.
    pub(super) directory: &'a Path,
    /// The text of a file, if it can be read.
    pub(super) file: &'a dyn Fn(&Path) -> Option<String>,
}

impl Environment<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    /// The sections of a file: of the one that the variable names, or of this one in the home directory.
    fn sections(&self, variable: &str, in_home_by_default: &str) -> Sections {
        let in_home = |path: &str| Some(Path::new(&self.variable("HOME")?).join(path));
        let path = match self.variable(variable) {
            Some(path) => match path.strip_prefix("~/") {
                Some(path) => in_home(path),
                None => Some(self.directory.join(path)),
            },
            None => in_home(in_home_by_default),
        };
        path.and_then(|path| (self.file)(&path))
            .map_or_else(Sections::default, |text| sections(&text))
    }
}

/// The settings of this process, which was started in this directory.
pub(super) fn of_process(config: &S3Config, directory: &Path) -> Settings {
    settings(
        config,
        &Environment {
            variable: &|name| std::env::var(name).ok(),
            directory,
            file: &|path| std::fs::read_to_string(path).ok(),
        },
    )
}

/// Combines options, variables and files.
pub(super) fn settings(config: &S3Config, environment: &Environment<'_>) -> Settings {
    let variable = |name: &str| environment.variable(name);
    let config_file = environment.sections("AWS_CONFIG_FILE", ".aws/config");
    let credentials_file = environment.sections("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
    let named = config.profile.clone();
    let profile = named
        .clone()
        .or_else(|| variable("AWS_PROFILE"))
        .unwrap_or_else(|| "default".to_owned());
    let in_config = config_file
        .get(&format!("profile {profile}"))
        .or_else(|| config_file.get(&profile).filter(|_| profile == "default"));
    let in_credentials = credentials_file.get(&profile);
    let of_profile = |name: &str| {
        let by = |section: Option<&Section>| section?.get(name).cloned();
        by(in_credentials).or_else(|| by(in_config))
    };
    let region = (config.region.clone())
        .or_else(|| variable("AWS_REGION"))
        .or_else(|| variable("AWS_DEFAULT_REGION"))
        .or_else(|| of_profile("region"))
        .unwrap_or_else(|| DEFAULT_REGION.to_owned());
    let endpoint = || {
        let text = variable("AWS_ENDPOINT_URL_S3")
            .or_else(|| variable("AWS_ENDPOINT_URL"))
            .or_else(|| of_profile("endpoint_url"))?;
        Url::parse(&text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
    };
    let style = config.addressing_style.or_else(|| {
        // Both forms are read by the AWS CLI.
        let style = of_profile("s3.addressing_style").or_else(|| of_profile("addressing_style"))?;
        AddressingStyle::of(&style)
    });
    let by_variables = || {
        Some(Credentials {
            access_key: variable("AWS_ACCESS_KEY_ID")?,
            secret_key: Secret::new(variable("AWS_SECRET_ACCESS_KEY")?),
            session_token: variable("AWS_SESSION_TOKEN").map(Secret::new),
        })
    };
    let of_section = |section: Option<&Section>| {
        let value = |name: &str| section?.get(name).cloned();
        Some(Credentials {
            access_key: value("aws_access_key_id")?,
            secret_key: Secret::new(value("aws_secret_access_key")?),
            session_token: value("aws_session_token").map(Secret::new),
        })
    };
    // In the order of the AWS CLI.
    let by_profile = || {
        if let Some((_, what)) = ONLY_BY_CLI.iter().find(|(setting, _)| of_profile(setting).is_some()) {
            return Err(format!(
                "the profile `{profile}` gets its keys by {what}, which only the AWS CLI does; run \
                 `eval \"$(aws configure export-credentials --profile {profile} --format env)\"` before"
            ));
        }
        let process = || {
            Some(KeySource::Process {
                command: Secret::new(of_profile("credential_process")?),
                profile: profile.clone(),
            })
        };
        let keys = of_section(in_credentials).map(KeySource::Given).or_else(process);
        Ok(keys.or_else(|| of_section(in_config).map(KeySource::Given)))
    };
    let keys = || match (&named, by_variables()) {
        _ if config.no_sign_request => Ok(KeySource::Unsigned),
        (None, Some(keys)) => Ok(KeySource::Given(keys)),
        (None, None) => by_profile()?.ok_or_else(|| {
            "there are no AWS keys in the environment or in ~/.aws; --no-sign-request reads a public bucket without"
                .to_owned()
        }),
        (Some(name), _) => by_profile()?.ok_or_else(|| {
            format!(
                "the profile `{name}` has no keys in ~/.aws (aws_access_key_id and aws_secret_access_key, or \
                 credential_process)"
            )
        }),
    };
    Settings {
        region,
        endpoint: config.endpoint.clone().or_else(endpoint),
        style: style.unwrap_or_default(),
        keys: keys(),
    }
}

/// Settings of a profile whose keys a service gives, and what that is called.
const ONLY_BY_CLI: [(&str, &str); 4] = [
    ("role_arn", "assuming a role"),
    ("sso_session", "single sign-on"),
    ("sso_start_url", "single sign-on"),
    ("login_session", "`aws login`"),
];

/// A section of a file: its values by their names.
type Section = HashMap<String, String>;

/// Reads a text as AWS's files. For fuzz targets.
#[cfg(any(test, fuzzing))]
pub(super) fn read_any(text: &str) {
    let environment = Environment {
        variable: &|_| Some("/any".to_owned()),
        directory: Path::new("/"),
        file: &|_| Some(text.to_owned()),
    };
    let config = S3Config {
        profile: Some("any".to_owned()),
        ..S3Config::default()
    };
    drop(settings(&config, &environment));
}

/// The sections of a file, each with its values.
type Sections = HashMap<String, Section>;

/// Reads a file in AWS's form. Indented lines are settings of the one before them, which has no value: the setting `a`
/// below `s3 =` is read as `s3.a`.
fn sections(text: &str) -> Sections {
    let mut sections = Sections::new();
    let (mut section, mut above) = (String::new(), String::new());
    for line in text.lines() {
        let is_indented = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.split(']').next()) {
            section = name.split_whitespace().collect::<Vec<_>>().join(" ");
        } else if let Some((name, value)) = line.split_once('=') {
            let value = value.split(" #").next().unwrap_or_default().trim();
            let mut name = name.trim().to_ascii_lowercase();
            if is_indented {
                name = format!("{above}.{name}");
            } else {
                above.clone_from(&name);
            }
            let values = sections.entry(section.clone()).or_default();
            values.insert(name, value.to_owned());
        }
    }
    sections
}
