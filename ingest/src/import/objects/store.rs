//! The store of a bucket: opened by what the environment says, asked from a blocking thread. Errors name the URL and what to
//! look at.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::keys::{Connector, LeftOut};
use crate::error::{Error, ErrorKind, Result};
use crate::import::location::{ObjectUrl, Provider};

/// Times that a request is sent again after it failed for a reason that may pass.
const MAX_RETRIES: usize = 6;
/// After this, no request is sent again.
const RETRY_FOR: Duration = Duration::from_secs(60);
/// Characters of what a store says that an error repeats.
const MAX_REASON_CHARS: usize = 400;

/// The stores of an import, each opened once.
pub(in crate::import) struct Stores {
    runtime: Handle,
    cancel: CancellationToken,
    open: HashMap<String, Arc<Store>>,
}

/// The store of one bucket.
#[derive(Debug)]
pub(super) struct Store {
    pub inner: Box<dyn ObjectStore>,
    /// Scheme and bucket, as in the job.
    pub base: String,
    /// What its listings name and it can't be asked for.
    pub left_out: LeftOut,
    provider: Provider,
    runtime: Handle,
    cancel: CancellationToken,
}

impl Stores {
    /// To be called on a thread of a runtime that may block.
    pub fn new(cancel: CancellationToken) -> Result<Self> {
        let runtime =
            Handle::try_current().map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
        Ok(Self { runtime, cancel, open: HashMap::new() })
    }

    /// The store that a URL names. Nothing is asked of it yet.
    pub(super) fn open(&mut self, url: &ObjectUrl) -> Result<Arc<Store>> {
        if let Some(store) = self.open.get(&url.base) {
            return Ok(Arc::clone(store));
        }
        let left_out = LeftOut::default();
        let inner = build(url, &left_out).map_err(|error| {
            let message = format!("{}: {}; {}", url.base, reason(&error), settings(url.provider));
            Error::new(ErrorKind::FailedPrecondition, message)
        })?;
        let store = Arc::new(self.wrap(inner, url, left_out));
        self.open.insert(url.base.clone(), Arc::clone(&store));
        Ok(store)
    }

    /// Puts a store in the place of the one that the URL names.
    #[cfg(test)]
    pub(super) fn place(&mut self, url: &ObjectUrl, inner: Box<dyn ObjectStore>) {
        self.open.insert(url.base.clone(), Arc::new(self.wrap(inner, url, LeftOut::default())));
    }

    fn wrap(&self, inner: Box<dyn ObjectStore>, url: &ObjectUrl, left_out: LeftOut) -> Store {
        Store {
            inner,
            left_out,
            base: url.base.clone(),
            provider: url.provider,
            runtime: self.runtime.clone(),
            cancel: self.cancel.clone(),
        }
    }
}

impl Store {
    /// Waits for an answer, or for the end of the import.
    pub fn wait<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => {
                    Err(Error::new(ErrorKind::Cancelled, format!("{}: the import was stopped", self.base)))
                }
                answer = answer => answer,
            }
        })
    }

    /// The URL of a key.
    pub fn url(&self, key: &str) -> String {
        format!("{}/{key}", self.base)
    }

    /// What went wrong with a key, for who has to mend it.
    pub fn error(&self, key: &str, error: &object_store::Error) -> Error {
        use object_store::Error as Cause;
        const MISSING: (ErrorKind, &str) = (ErrorKind::NotFound, "is not there");
        const REFUSED: (ErrorKind, &str) = (ErrorKind::FailedPrecondition, "is refused to these credentials");
        let reason = reason(error);
        let (kind, what) = match error {
            Cause::NotFound { .. } => MISSING,
            Cause::Precondition { .. } => {
                (ErrorKind::Unavailable, "was replaced while it was read; run the import again")
            }
            Cause::PermissionDenied { .. } | Cause::Unauthenticated { .. } => REFUSED,
            Cause::InvalidPath { .. } => (ErrorKind::InvalidArgument, "has a key that can't be asked for"),
            // A listing that fails tells its status in words only.
            _ if reason.contains("status code: 404") => MISSING,
            _ if reason.contains("status code: 401") || reason.contains("status code: 403") => REFUSED,
            _ => (ErrorKind::Unavailable, "can't be read"),
        };
        let mut message = format!("{} {what}: {reason}", self.url(key));
        if matches!(kind, ErrorKind::FailedPrecondition | ErrorKind::Unavailable)
            && !matches!(error, Cause::Precondition { .. })
        {
            message.push_str("; ");
            message.push_str(settings(self.provider));
        }
        Error::new(kind, message)
    }
}

/// Where a store takes its settings from.
fn settings(provider: Provider) -> &'static str {
    match provider {
        Provider::S3 => {
            "the server's environment decides: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or \
             AWS_SKIP_SIGNATURE=true for a public bucket), AWS_REGION, AWS_ENDPOINT_URL"
        }
        Provider::Google => {
            "the server's environment decides: GOOGLE_APPLICATION_CREDENTIALS (or GOOGLE_SKIP_SIGNATURE=true for a \
             public bucket)"
        }
        Provider::Azure => {
            "the server's environment decides: AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (or \
             AZURE_SKIP_SIGNATURE=true for a public container)"
        }
    }
}

/// The innermost cause says most; a page of XML says no more than its beginning.
fn reason(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    let line: Vec<&str> = text.split_whitespace().collect();
    let line = line.join(" ");
    match line.char_indices().nth(MAX_REASON_CHARS) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

fn build(url: &ObjectUrl, left_out: &LeftOut) -> object_store::Result<Box<dyn ObjectStore>> {
    // The client takes the ciphers of the process; another library may have named them already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let retry = RetryConfig { max_retries: MAX_RETRIES, retry_timeout: RETRY_FOR, ..RetryConfig::default() };
    let is_plain =
        |endpoint: Option<String>| endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let bucket = format!("{}/", url.base);
    let connector = Connector::new(left_out.clone());
    Ok(match url.provider {
        Provider::S3 => {
            let builder = AmazonS3Builder::from_env().with_url(bucket).with_retry(retry);
            let mut builder = builder.with_http_connector(connector);
            // Who writes http:// into the endpoint has decided.
            if is_plain(builder.get_config_value(&AmazonS3ConfigKey::S3Endpoint))
                || is_plain(builder.get_config_value(&AmazonS3ConfigKey::Endpoint))
            {
                builder = builder.with_config(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp), "true");
            }
            Box::new(builder.build()?)
        }
        Provider::Google => {
            let builder = GoogleCloudStorageBuilder::from_env().with_url(bucket).with_retry(retry);
            let mut builder = builder.with_http_connector(connector);
            if is_plain(builder.get_config_value(&GoogleConfigKey::BaseUrl)) {
                builder = builder.with_config(GoogleConfigKey::Client(ClientConfigKey::AllowHttp), "true");
            }
            Box::new(builder.build()?)
        }
        Provider::Azure => {
            let builder = MicrosoftAzureBuilder::from_env().with_url(bucket).with_retry(retry);
            let mut builder = builder.with_http_connector(connector);
            if is_plain(builder.get_config_value(&AzureConfigKey::Endpoint)) {
                builder = builder.with_config(AzureConfigKey::Client(ClientConfigKey::AllowHttp), "true");
            }
            Box::new(builder.build()?)
        }
    })
}
