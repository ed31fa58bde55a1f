//! The kind `index`: directories that a web server lists, one GET each.
//!
//! A server may list its directories in HTML ([`index_page`](index_page)), or for programs in JSON or XML
//! ([`data_index`](data_index)). The content of the answer shows which. The first request says that both are
//! accepted, which makes some servers send JSON instead of HTML.
//!
//! Some servers send a page that a script fills in, and another [`Form`] of it for a certain query: a page without
//! scripts, or JSON. The page itself says so (`<noscript>`), or is recognised by its content. Then that form is
//! requested, and from then on for each directory of that origin. The same holds for servers that have exact sizes in
//! another form only, and for those that send other JSON than a listing. The URLs of the entries do not have the query of
//! the form.

mod answer;
pub mod data_index;
mod form;
pub mod index_page;
mod page_or_file;
mod pages;
mod relocate;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use url::Url;

use self::index_page::{NotAnIndex, OtherPages};
use super::listing::builder::TooManyNames;
use super::receiving::{self, Beginning, NamesTo};
use super::{
    Asked, BoxFuture, Found, ListedSize, Listing, ListingConfig, NO_INDEX_PAGE, NameKind, NameSink, Source,
    SourceError, SourceErrorKind,
};
use crate::http::{Origin, Validator, redact};
use crate::origin::{Client, IncomingDocument, Metadata, as_directory};
use crate::util::events;
use answer::Reading;
use form::{Form, KnownForms};
pub(in crate::source) use page_or_file::is_page_in_place_of_a_file;
use page_or_file::is_redirected_to_directory;
use pages::Pages;
use relocate::Homing;

/// The name of the kind: that of listings which were stored before kinds were.
pub(crate) const INDEX: &str = "index";

/// The source of index pages.
pub(crate) struct WebIndex {
    client: Client,
    config: ListingConfig,
    forms: KnownForms,
}

impl WebIndex {
    /// A source of index pages that sends requests through this client.
    pub(crate) fn new(client: Client, config: ListingConfig) -> WebIndex {
        WebIndex {
            client,
            config,
            forms: KnownForms::default(),
        }
    }

    /// A directory that the user has named, and its listing at `there`.
    async fn root(&self, directory: Url, there: &Url) -> Result<Found, SourceError> {
        let listing = self.list(&directory, there).await?;
        if !listing.is_evident() {
            // Only the parent's listing could show that this is an empty directory; a home page looks the same.
            return Err(SourceError::not_a_listing(there, NO_INDEX_PAGE));
        }
        if !listing.is_marked {
            log::warn!(
                event = events::NOT_AN_INDEX;
                "{}: this page does not look like a directory index (no title such as `Index of`, no link upwards, \
                 no sizes or dates); its links are shown as files and directories",
                redact(there)
            );
        }
        Ok(Found::Directory(directory, listing))
    }

    /// The listing of a directory whose URL without `/` returned a page. `None` if the page does not mark itself as an
    /// index.
    async fn marked_index(&self, url: &Url, answer: &Metadata) -> Option<Listing> {
        if !is_page_in_place_of_a_file(url, answer) {
            return None;
        }
        let directory = as_directory(url);
        let listing = self.list(&directory, &directory).await.ok()?;
        listing.is_marked.then_some(listing)
    }

    /// Requests the directory at `there` in this form, with all its pages if the listing has several.
    async fn ask(
        &self,
        directory: &Url,
        there: &Url,
        form: &Form,
        names: Option<&Arc<dyn NameSink>>,
    ) -> Result<Reading, SourceError> {
        let reading = self.ask_unless(directory, there, form, &Validator::None, names).await?;
        reading.ok_or_else(|| SourceError::not_a_listing(there, "status 304"))
    }

    /// [`Self::ask`] for a listing that has not the validator `unless`. `None` if it has.
    async fn ask_unless(
        &self,
        directory: &Url,
        there: &Url,
        form: &Form,
        unless: &Validator,
        names: Option<&Arc<dyn NameSink>>,
    ) -> Result<Option<Reading>, SourceError> {
        let document = self
            .client
            .incoming_document(&form.url(there), form.request(unless))
            .await?;
        if document.document().is_unchanged() {
            return Ok(None);
        }
        let first = self.read(directory, there, document, form, names).await?;
        self.with_pages(directory, there, first, form, names).await.map(Some)
    }

    /// The listing whose first page was read, with the names of its other pages.
    async fn with_pages(
        &self,
        directory: &Url,
        there: &Url,
        (mut first, answered): (Reading, Url),
        form: &Form,
        names: Option<&Arc<dyn NameSink>>,
    ) -> Result<Reading, SourceError> {
        let others = std::mem::take(&mut first.pages);
        let Ok(listing) = &mut first.listing else {
            return Ok(first);
        };
        self.client.found_directory(there, &answered);
        if others == OtherPages::default() {
            return Ok(first);
        }
        let (most, longest) = (self.config.max_entries, self.client.max_page());
        let mut length = first.length;
        let too_many = |TooManyNames| Reading::refused(NotAnIndex::TooManyNames(most));
        let mut pages = match Pages::new(directory, &answered, listing.clone(), others, most) {
            Ok(pages) => pages,
            Err(error) => return Ok(too_many(error)),
        };
        while let Some(next) = pages.next() {
            if pages.count() > OtherPages::MOST {
                return Ok(Reading::refused(format_args!(
                    "it has more than {} pages, and no more are requested",
                    OtherPages::MOST
                )));
            }
            let request = form.request(&Validator::None);
            let document = self.client.incoming_document(&next, request).await;
            let document = match document.map_err(SourceError::from) {
                Ok(document) => document,
                Err(error) if error.kind() == SourceErrorKind::NotFound => {
                    pages.skip();
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (page, _) = self.read(directory, there, document, form, names).await?;
            length += page.length;
            if length > longest {
                return Ok(Reading::refused(format_args!(
                    "its pages have more than {} together; raise --max-listing-size",
                    bytesize::ByteSize(longest).display().iec()
                )));
            }
            let added = match &page.listing {
                Ok(listing) => pages.take(listing, page.pages),
                // Half of a listing would mean that the other half is gone.
                Err(why) => return Ok(Reading::refused(format_args!("its page {}: {why}", redact(&next)))),
            };
            if let Err(error) = added {
                return Ok(too_many(error));
            }
        }
        first.listing = Ok(pages.finish());
        Ok(first)
    }

    /// Reads one page of the directory at `there`. Returns where it came from as well.
    async fn read(
        &self,
        directory: &Url,
        there: &Url,
        document: IncomingDocument,
        form: &Form,
        names: Option<&Arc<dyn NameSink>>,
    ) -> Result<(Reading, Url), SourceError> {
        let answered = document.document().url.clone();
        let (config, asked) = (self.config, there.clone());
        let home = Homing {
            directory: directory.clone(),
            asked: there.clone(),
            answered: answered.clone(),
            query: form.query.clone(),
        };
        let reading = match receiving::begin(document).await? {
            // A long page takes seconds, and the runtime's threads have to move bodies.
            Beginning::Whole(document) => {
                let reading = move || home.of_reading(answer::read(&asked, &document, &config));
                tokio::task::spawn_blocking(reading).await
            }
            Beginning::Long(document) if !answer::can_be_read_early(document.document()) => {
                let document = document.whole().await?;
                let reading = move || home.of_reading(answer::read(&asked, &document, &config));
                tokio::task::spawn_blocking(reading).await
            }
            Beginning::Long(document) => {
                let is_asked_otherwise =
                    self.forms.of_url(there).is_none() && form::exact(&document.document().headers).is_some();
                let is_certain = answer::is_same_directory(there, &answered) && !is_asked_otherwise;
                let names = names.filter(|_| is_certain);
                let (home_of_names, page) = (home.clone(), document.beginning());
                let to = names.map(|names| NamesTo::new(names, move |entries| home_of_names.of_entries(entries)));
                let read = move |pieces| home.of_reading(answer::read_long(&asked, &page, pieces, to, &config));
                let read = receiving::read_long(document, read).await?;
                read.result.map(|reading| Reading {
                    length: read.length,
                    ..reading
                })
            }
        };
        // An error means a panic, or a runtime that is shutting down.
        Ok((reading.unwrap_or_else(Reading::refused), answered))
    }

    /// Asks in the other forms that an answer suggests. The first listing counts, and its form is remembered.
    async fn ask_otherwise(
        &self,
        directory: &Url,
        there: &Url,
        mut first: Reading,
        names: Option<&Arc<dyn NameSink>>,
    ) -> Result<Result<Listing, String>, SourceError> {
        // The user's own query stays.
        first
            .others
            .retain(|form| form.query.is_none() || there.query().is_none());
        if first.others.is_empty() {
            return Ok(first.listing);
        }
        let origin = Origin::of(there).unwrap_or_else(Origin::nowhere);
        for form in first.others {
            let listing = match self.ask(directory, there, &form, names).await {
                // A server that ignores the query sends the same page again.
                Ok(reading) if first.listing.is_ok() && !reading.others.is_empty() => continue,
                Ok(reading) => reading.listing,
                Err(_) if first.listing.is_ok() => continue,
                Err(error) => return Err(error),
            };
            if listing.is_ok() {
                log::info!(event = events::LISTING_FORM; "{origin}: requesting listings {form}");
                self.forms.remember(origin, form);
                return Ok(listing);
            }
        }
        if first.listing.is_ok() {
            // There is no better one.
            self.forms.remember(origin, Form::FIRST);
        }
        Ok(first.listing)
    }

    /// The listing of a directory at `there`, unless it has the validator `unless`: then `None`.
    async fn list_unless(
        &self,
        directory: &Url,
        there: &Url,
        unless: &Validator,
        names: Option<&Arc<dyn NameSink>>,
    ) -> Result<Option<Listing>, SourceError> {
        let known = self.forms.of_url(there);
        let known = known.filter(|form| form.query.is_none() || there.query().is_none());
        let form = known.as_ref().unwrap_or(&Form::FIRST);
        let Some(first) = self.ask_unless(directory, there, form, unless, names).await? else {
            return Ok(None);
        };
        let listing = match &known {
            None => self.ask_otherwise(directory, there, first, names).await?,
            // This directory may be another program's.
            Some(form) if form.query.is_some() && first.listing.is_err() => {
                self.ask(directory, there, &Form::FIRST, names).await?.listing
            }
            Some(_) => first.listing,
        };
        listing.map(Some).map_err(|why| SourceError::not_a_listing(there, why))
    }
}

impl Source for WebIndex {
    fn kind(&self) -> &'static str {
        INDEX
    }

    fn open<'a>(&'a self, asked: &'a Asked<'a>) -> BoxFuture<'a, Result<Option<Found>, SourceError>> {
        Box::pin(async move {
            let directory = as_directory(asked.url);
            if asked.is_named || *asked.url == directory {
                return Ok(Some(self.root(directory, &as_directory(asked.there)).await?));
            }
            let answer = asked.metadata().await?;
            // Servers redirect from a directory's name to the name with a slash.
            if answer.url.path().ends_with('/') {
                let there = if asked.is_own() { &directory } else { &answer.url };
                return Ok(Some(self.root(directory.clone(), there).await?));
            }
            if asked.is_own()
                && let Some(listing) = self.marked_index(asked.url, answer).await
            {
                return Ok(Some(Found::Directory(directory, listing)));
            }
            Ok(None)
        })
    }

    fn may_omit_names(&self, _: &Url) -> bool {
        true
    }

    fn tell_apart<'a>(&'a self, file: &'a Url, size: ListedSize, answer: &'a Metadata) -> BoxFuture<'a, NameKind> {
        Box::pin(async move {
            // No server gives the exact size of a page that it generates.
            let may_be_index = !matches!(size, ListedSize::Exact(_));
            if is_redirected_to_directory(file, &answer.url) {
                NameKind::Directory
            } else if !may_be_index || !is_page_in_place_of_a_file(file, answer) {
                NameKind::File
            } else if self.marked_index(file, answer).await.is_some() {
                NameKind::Directory
            } else {
                NameKind::Page
            }
        })
    }

    fn list<'a>(&'a self, directory: &'a Url, there: &'a Url) -> BoxFuture<'a, Result<Listing, SourceError>> {
        Box::pin(async move {
            let listing = self.list_unless(directory, there, &Validator::None, None).await?;
            listing.ok_or_else(|| SourceError::not_a_listing(there, "status 304"))
        })
    }

    fn list_early<'a>(
        &'a self,
        directory: &'a Url,
        there: &'a Url,
        names: &'a Arc<dyn NameSink>,
    ) -> BoxFuture<'a, Result<Listing, SourceError>> {
        Box::pin(async move {
            let listing = self
                .list_unless(directory, there, &Validator::None, Some(names))
                .await?;
            listing.ok_or_else(|| SourceError::not_a_listing(there, "status 304"))
        })
    }

    fn list_if_changed<'a>(
        &'a self,
        directory: &'a Url,
        known: &'a Validator,
    ) -> BoxFuture<'a, Result<Option<Listing>, SourceError>> {
        Box::pin(self.list_unless(directory, directory, known, None))
    }
}
