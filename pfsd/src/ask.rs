//! Client of `pfsd --reload`: asks the running daemon to reload its configuration and returns
//! the outcome.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use pfs_proto::{Decoder, ErrorCode, Hello, Reply, Request};

/// How long the daemon may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Asks the daemon on this socket to reload its configuration. Returns the daemon's report.
///
/// # Errors
///
/// No daemon answers, the daemon does not let this user ask, or it refuses the new configuration.
pub(crate) fn reload(socket: &Path) -> Result<String> {
    let shown = socket.display();
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("no daemon answers on {shown}; name its socket with --socket"))?;
    stream
        .set_read_timeout(Some(ANSWER_TIMEOUT))
        .context("cannot set a time limit for the daemon's answer")?;
    let mut decoder = Decoder::new();
    match answer(&mut stream, &mut decoder, &Request::Hello(Hello::OURS)) {
        Ok(Reply::Hello(_)) => {}
        Ok(Reply::Error { code: ErrorCode::Limit, message }) => {
            bail!("{message}; without a connection, kill -HUP reloads its configuration")
        }
        Ok(Reply::Error { message, .. }) => bail!("{message}"),
        Ok(_) => bail!("the server on {shown} is not a pfs daemon"),
        Err(error) => return Err(error.context(format!("the daemon on {shown} does not answer"))),
    }
    match answer(&mut stream, &mut decoder, &Request::Reload) {
        Ok(Reply::Document(text)) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Ok(Reply::Error { code: ErrorCode::Protocol, .. }) => {
            bail!(
                "the daemon on {shown} cannot reload its configuration; restart it with this release"
            )
        }
        Ok(Reply::Error { message, .. }) => bail!("{message}"),
        Ok(_) => {
            bail!("the daemon on {shown} sent an unexpected answer to the reload request")
        }
        Err(error) => Err(error
            .context(format!("cannot read the result of the reload from the daemon on {shown}"))),
    }
}

fn answer(stream: &mut UnixStream, decoder: &mut Decoder, request: &Request) -> Result<Reply> {
    let mut bytes = BytesMut::new();
    request.encode(&mut bytes);
    // If the daemon refused the connection, it has already sent the reason and hung up. So the
    // reply is read even if writing failed.
    let sent = stream.write_all(&bytes);
    let mut received = [0; 4096];
    loop {
        if let Some(frame) = decoder.next_frame()? {
            return Ok(Reply::decode(frame)?);
        }
        let len = stream.read(&mut received)?;
        if len == 0 {
            sent?;
            bail!("the daemon closed the connection");
        }
        decoder.buffer().extend_from_slice(received.get(..len).unwrap_or_default());
    }
}
