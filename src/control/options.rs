//! The options of a running mount, as the layer above keeps them.

use std::sync::Arc;

use super::context::Control;
use super::protocol::{OptionShown, Reply};

/// The options of a mount. The methods block.
pub(crate) trait Options: Send + Sync {
    /// All options, or those of this name.
    ///
    /// # Errors
    /// If there is no such option: one sentence.
    fn get(&self, key: Option<&str>) -> Result<Vec<OptionShown>, String>;

    /// Changes options, each as `KEY=VALUE`: all of them or none. Returns them as they are then.
    ///
    /// # Errors
    /// Why nothing has changed: one sentence.
    fn set(&self, assignments: &[String]) -> Result<Vec<OptionShown>, String>;

    /// Changes options, each as `KEY=VALUE` or `KEY`: all of them or none. Those that are so already are left alone. Returns
    /// those that have changed.
    ///
    /// # Errors
    /// Why nothing has changed: one sentence.
    fn remount(&self, options: &[String]) -> Result<Vec<OptionShown>, String>;
}

impl Control {
    pub(super) async fn get_options(&self, key: Option<String>) -> Reply {
        self.with_options(move |options| options.get(key.as_deref())).await
    }

    pub(super) async fn set_options(&self, assignments: Vec<String>) -> Reply {
        self.with_options(move |options| options.set(&assignments)).await
    }

    pub(super) async fn remount(&self, source: Option<String>, asked: Vec<String>) -> Reply {
        let mounted = &self.about.source;
        if source.is_some_and(|source| source != *mounted) {
            return Reply::Refused {
                reason: format!(
                    "the source is {mounted}, which can't change while mounted; unmount, then mount the other source"
                ),
            };
        }
        self.with_options(move |options| options.remount(&asked)).await
    }

    async fn with_options(
        &self,
        work: impl FnOnce(&dyn Options) -> Result<Vec<OptionShown>, String> + Send + 'static,
    ) -> Reply {
        let options = Arc::clone(&self.options);
        match self.with_cache(move |_| work(&*options)).await {
            Some(Ok(options)) => Reply::Options { options },
            Some(Err(reason)) => Reply::Refused { reason },
            None => Reply::Refused {
                reason: "the mount is shutting down".to_owned(),
            },
        }
    }
}
