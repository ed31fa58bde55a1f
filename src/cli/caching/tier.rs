//! `fetchfs tier config`: prints the configuration of an nginx that several machines share as a cache.

mod nginx;
mod private;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, FromArgMatches, Subcommand};

use crate::cli::support::output;
use crate::config::parse_size;
use nginx::{AllowedOrigin, TierConfig, quotable_path};
use private::PassedHeader;

/// The arguments of `fetchfs tier`.
#[derive(Args)]
struct TierArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Print a complete configuration for nginx 1.18 or newer, which needs its slice module
    ///
    /// nginx then answers requests such as http://ADDR:PORT/https/example.org/pub/file with the bytes of
    /// https://example.org/pub/file, and fetches each MiB of a version once. It asks no servers but the allowed ones,
    /// and sends them nothing of a client's request but path, range and version: no logins and no cookies, unless
    /// --private is given.
    #[command(after_help = "\
Example:
  fetchfs tier config --listen 10.0.0.5:8080 --cache-dir /var/cache/fetchfs-tier \\
      --cache-size 500G --allow https://example.org --allow http://data.example.org:8080 >tier.conf
  mkdir -p /var/cache/fetchfs-tier && nginx -e stderr -c $PWD/tier.conf")]
    Config {
        /// Where nginx listens: an address of this machine that the others reach
        #[arg(long, value_name = "ADDR:PORT", value_parser = listen)]
        listen: SocketAddr,

        /// The directory for slices and temporary files; it must exist when nginx starts
        #[arg(long, value_name = "DIR", value_parser = quotable_path)]
        cache_dir: PathBuf,

        /// Maximum size of the slices; the least recently used ones are deleted
        #[arg(long, value_name = "SIZE", value_parser = cache_size)]
        cache_size: u64,

        /// A server whose files the tier passes on, as scheme://host[:port]; may be repeated
        ///
        /// Without a list of servers the tier would be an open relay, so it has no default.
        #[arg(long, value_name = "ORIGIN", required = true, num_args = 1.., value_parser = AllowedOrigin::parse)]
        allow: Vec<AllowedOrigin>,

        /// File with the certificates of the authorities that https servers are verified with
        ///
        /// Default: the system's.
        #[arg(long, value_name = "FILE", value_parser = quotable_path)]
        ca_file: Option<PathBuf>,

        /// Log each request to this file, with its cache status
        ///
        /// Default: requests are not logged.
        #[arg(long, value_name = "FILE", value_parser = quotable_path)]
        access_log: Option<PathBuf>,

        /// Pass on the logins, tokens and cookies of machines that mount with --tier-private
        ///
        /// What is fetched with credentials is kept apart by a hash of them. Any client that has this hash can read it.
        #[arg(long)]
        private: bool,

        /// A further header that is passed on, by its name, as X-Api-Key; may be repeated
        #[arg(long, value_name = "NAME", requires = "private", value_parser = PassedHeader::parse)]
        private_header: Vec<PassedHeader>,

        /// File with the certificate that nginx shows to the machines, so that they name it as https://
        #[arg(long, value_name = "FILE", requires = "certificate_key", value_parser = quotable_path)]
        certificate: Option<PathBuf>,

        /// File with the key of the certificate
        #[arg(long, value_name = "FILE", requires = "certificate", value_parser = quotable_path)]
        certificate_key: Option<PathBuf>,
    },
}

pub(in crate::cli) fn command() -> Command {
    TierArgs::augment_args(Command::new("tier")).about("Set up an nginx that several machines share as a cache")
}

pub(in crate::cli) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let TierArgs {
        action:
            Action::Config {
                listen,
                cache_dir,
                cache_size,
                mut allow,
                ca_file,
                access_log,
                private,
                mut private_header,
                certificate,
                certificate_key,
            },
    } = TierArgs::from_arg_matches(matches)?;
    // nginx refuses a map with the same line twice.
    once_each(&mut allow);
    // An origin would get the header twice.
    once_each(&mut private_header);
    let config = TierConfig {
        listen,
        cache_dir,
        cache_size,
        allow,
        ca_file,
        access_log,
        certificate: certificate.zip(certificate_key),
        private: private.then_some(private_header),
    };
    output::write(config.text())
}

/// Drops what was given before.
fn once_each<T: Clone + PartialEq>(given: &mut Vec<T>) {
    let mut known = Vec::new();
    given.retain(|one| {
        let is_new = !known.contains(one);
        known.push(one.clone());
        is_new
    });
}

/// The smallest cache of a tier. Below it, slices would be deleted while they are sent.
const SMALLEST: u64 = 64 << 20;

fn cache_size(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        bytes if bytes < SMALLEST => Err("too small for a cache that machines share; write at least 64M".to_owned()),
        bytes => Ok(bytes),
    }
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "write an IP address and a port, for example 10.0.0.5:8080, 0.0.0.0:8080 or [::]:8080".to_owned())
}
