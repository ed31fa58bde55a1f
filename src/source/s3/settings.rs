//! AWS's settings: variables, `~/.aws/config` and `~/.aws/credentials`, with the precedence of the AWS CLI.
//!
//! An option wins over a variable, and a variable over the files. `--profile` rules out the keys in variables.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use url::Url;

use super::S3Config;
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

/// What is known of the service and the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// The region.
    pub(super) region: String,
    /// URL of the service, if it is not Amazon's.
    pub(super) endpoint: Option<Url>,
    /// `None` if requests are not signed; an error if there are no keys to sign them.
    pub(super) credentials: Result<Option<Credentials>, String>,
}

/// Where variables and files are read.
pub(super) struct Environment<'a> {
    /// The value of a variable, if it is set.
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
    /// The text of a file, if it can be read.
    pub(super) file: &'a dyn Fn(&Path) -> Option<String>,
}

impl Environment<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    /// The sections of a file: of the one that the variable names, or of this one in the home directory.
    fn sections(&self, variable: &str, in_home: &str) -> Sections {
        let path = self.variable(variable).map(PathBuf::from);
        let path = path.or_else(|| Some(Path::new(&self.variable("HOME")?).join(in_home)));
        path.and_then(|path| (self.file)(&path))
            .map_or_else(Sections::default, |text| sections(&text))
    }
}

/// The settings of this process.
pub(super) fn of_process(config: &S3Config) -> Settings {
    settings(
        config,
        &Environment {
            variable: &|name| std::env::var(name).ok(),
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
        let by = |section: Option<&HashMap<String, String>>| section?.get(name).cloned();
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
    let by_variables = || {
        Some(Credentials {
            access_key: variable("AWS_ACCESS_KEY_ID")?,
            secret_key: Secret::new(variable("AWS_SECRET_ACCESS_KEY")?),
            session_token: variable("AWS_SESSION_TOKEN").map(Secret::new),
        })
    };
    let by_profile = || {
        Some(Credentials {
            access_key: of_profile("aws_access_key_id")?,
            secret_key: Secret::new(of_profile("aws_secret_access_key")?),
            session_token: of_profile("aws_session_token").map(Secret::new),
        })
    };
    let credentials = match named {
        _ if config.no_sign_request => Ok(None),
        None => by_variables().or_else(by_profile).map(Some).ok_or_else(|| {
            "there are no AWS keys in the environment or in ~/.aws; --no-sign-request reads a public bucket without"
                .to_owned()
        }),
        Some(name) => by_profile().map(Some).ok_or_else(|| {
            format!("the profile `{name}` has no keys in ~/.aws (aws_access_key_id and aws_secret_access_key)")
        }),
    };
    Settings {
        region,
        endpoint: config.endpoint.clone().or_else(endpoint),
        credentials,
    }
}

/// The sections of a file, each with its values.
type Sections = HashMap<String, HashMap<String, String>>;

/// Reads a file in AWS's form. Lines that are indented belong to the value before them, and none of those is needed.
fn sections(text: &str) -> Sections {
    let mut sections = Sections::new();
    let mut section = String::new();
    for line in text.lines() {
        if line.starts_with(['#', ';', ' ', '\t']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.split(']').next()) {
            section = name.split_whitespace().collect::<Vec<_>>().join(" ");
        } else if let Some((name, value)) = line.split_once('=') {
            let value = value.split(" #").next().unwrap_or_default().trim();
            let values = sections.entry(section.clone()).or_default();
            values.insert(name.trim().to_ascii_lowercase(), value.to_owned());
        }
    }
    sections
}
