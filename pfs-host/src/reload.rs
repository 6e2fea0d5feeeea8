//! Reloading the configuration at the request of a client. This crate reads no file: the program
//! around the daemon answers.

use pfs_proto::ErrorCode;
use tokio::sync::{mpsc, oneshot};

use crate::{Caller, Daemon, Failure};

/// A client waits to hear what a reload changed, or why nothing was.
#[derive(Debug)]
pub struct ReloadRequest(oneshot::Sender<Result<String, Failure>>);

impl ReloadRequest {
    /// Tells the client.
    pub fn answer(self, outcome: Result<String, Failure>) {
        // The client may have gone.
        let _ = self.0.send(outcome);
    }
}

impl Daemon {
    /// Lets root and the user `owner` [operate](Self::with_operator) the daemon, and ask for a
    /// reload. Whoever receives the requests answers them.
    #[must_use]
    pub fn with_reload(mut self, owner: u32, requests: mpsc::Sender<ReloadRequest>) -> Self {
        self.reloads = Some(requests);
        self.with_operator(owner)
    }

    /// Has the configuration reloaded, and tells what changed.
    ///
    /// # Errors
    ///
    /// The caller may not ask for it, the new configuration is refused, or the daemon ends.
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
