//! Reload of the configuration at a client's request. This crate reads no file: the embedding
//! program handles the request.

use pfs_proto::ErrorCode;
use tokio::sync::{mpsc, oneshot};

use crate::{Caller, Daemon, Failure};

/// A reload request. The client waits for the changes or the error.
#[derive(Debug)]
pub struct ReloadRequest(oneshot::Sender<Result<String, Failure>>);

impl ReloadRequest {
    /// Sends the outcome to the client.
    pub fn answer(self, outcome: Result<String, Failure>) {
        // The client may be gone.
        let _ = self.0.send(outcome);
    }
}

impl Daemon {
    /// Lets root and the user `owner` [operate](Self::with_operator) the daemon and request a
    /// reload. The receiver of `requests` answers each request.
    #[must_use]
    pub fn with_reload(mut self, owner: u32, requests: mpsc::Sender<ReloadRequest>) -> Self {
        self.reloads = Some(requests);
        self.with_operator(owner)
    }

    /// Has the configuration reloaded, and returns a text about the changes.
    ///
    /// # Errors
    ///
    /// The caller may not request a reload, the new configuration is refused, or the daemon is
    /// shutting down.
    pub(crate) async fn reload(&self, caller: &Caller) -> Result<String, Failure> {
        let Some(requests) = &self.reloads else {
            return Err(Failure::new(
                ErrorCode::Denied,
                "this daemon has no configuration to reload",
            ));
        };
        self.may_operate(caller, "cannot reload the configuration")?;
        let (request, answer) = oneshot::channel();
        let answered = async {
            requests.send(ReloadRequest(request)).await.ok()?;
            answer.await.ok()
        };
        tokio::select! {
            biased;
            () = self.shutdown().cancelled() => Err(Failure::shutting_down()),
            answered = answered => answered.unwrap_or_else(|| Err(Failure::shutting_down())),
        }
    }
}
