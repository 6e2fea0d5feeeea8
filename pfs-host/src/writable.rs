//! Write access to a path: create, append, close, remove.

use std::{
    ops::Deref,
    time::{Duration, SystemTime},
};

use pfs_proto::{
    CreateOptions, ErrorCode, Identity, IfExists, MAX_CONTENT_TYPE, PathPrefix, Request,
    StreamPath, Unprintable,
};
use pfs_stream::{Stream, StreamConfig};

use crate::{
    Append, Caller, Cutoff, Daemon, Failure, caller::routine, cutoff::Needs, media::Indexing,
    mount::First, stream_at::StreamAt,
};

/// A path that the caller may write. The stream need not exist yet.
#[derive(Clone, Debug)]
pub struct Writable<'a> {
    place: StreamAt<'a>,
    in_request: bool,
}

impl<'a> Deref for Writable<'a> {
    type Target = StreamAt<'a>;

    fn deref(&self) -> &StreamAt<'a> {
        &self.place
    }
}

impl Daemon {
    /// Checks the permission to write a path.
    ///
    /// # Errors
    ///
    /// The caller may not write this path, or the path does not belong to a stream.
    pub fn writable<'a>(
        &'a self,
        caller: &'a Caller,
        path: &StreamPath,
    ) -> Result<Writable<'a>, Failure> {
        caller.permissions.may_write(path.as_str())?;
        let place = StreamAt::new(self, caller, path)?;
        Ok(Writable { place, in_request: false })
    }

    /// Removes all streams at a path and below it, and returns how many were removed.
    ///
    /// # Errors
    ///
    /// The caller may not write below this path, or a mount fails.
    pub async fn remove_below(
        &self,
        caller: &Caller,
        prefix: &PathPrefix,
    ) -> Result<usize, Failure> {
        caller.permissions.may_write(prefix.as_str())?;
        let mut removed = 0;
        for mount in self.namespace.mounts_at(prefix) {
            for entry in mount.list(prefix, "", usize::MAX).await? {
                let Ok(path) = entry.summary.path.parse() else { continue };
                let place = self.writable(caller, &path)?;
                if place.is_elsewhere() {
                    removed += match place.ask(Request::Remove(path)).await {
                        Ok(_) => 1,
                        // Another client has removed the stream meanwhile.
                        Err(failure) if failure.code == ErrorCode::NoSuchStream => 0,
                        Err(failure) => return Err(failure),
                    };
                    continue;
                }
                let Some(stream) = place.find().await? else { continue };
                // Another client may have removed the stream meanwhile.
                removed += usize::from(place.remove(&stream).await.is_ok());
            }
        }
        Ok(removed)
    }
}

impl Writable<'_> {
    /// Marks the path as used by a request whose protocol logs the whole request in one line.
    /// Creating, appending and closing then log at debug. Failures are logged as usual.
    #[must_use]
    pub fn in_request(self) -> Self {
        Self { in_request: true, ..self }
    }

    /// Computes the configuration of a stream with these options.
    ///
    /// # Errors
    ///
    /// An option is invalid.
    pub fn config(&self, options: CreateOptions) -> Result<StreamConfig, Failure> {
        let config = stream_config(self.mount.stream_config(), options).map_err(|reason| {
            Failure::new(ErrorCode::BadOption, format!("cannot create {}: {reason}", self.path))
        })?;
        Ok(StreamConfig { owner: self.caller.peer, ..config })
    }

    /// Creates a stream, or keeps an existing one if the options say so.
    ///
    /// # Errors
    ///
    /// The path is taken, the stream to keep is closed, an option is invalid, a limit is reached,
    /// or the caller may not write this path any more.
    pub async fn create(&self, options: CreateOptions) -> Result<Stream, Failure> {
        if options.if_exists != IfExists::Keep {
            return self.create_with(options, None, First::default()).await;
        }
        let (stream, created) = self.open_or_create_with(options).await?;
        if !created && stream.extent().closed {
            return Err(Failure::kept_closed(&self.path));
        }
        Ok(stream)
    }

    /// Creates a stream with first contents. The stream is removed at `deadline`, if there is one.
    ///
    /// # Errors
    ///
    /// Those of [`create`](Self::create).
    pub async fn create_with(
        &self,
        options: CreateOptions,
        deadline: Option<SystemTime>,
        first: First<'_>,
    ) -> Result<Stream, Failure> {
        self.check()?;
        let replace = options.if_exists == IfExists::Replace;
        let config = StreamConfig { deadline, ..self.config(options)? };
        let StreamConfig { ring_buffer_size, channel_buffer_size, ttl, .. } = config;
        let created =
            self.mount.create(&self.path, config, first, replace, self.caller.owner).await?;
        let (stream, ttl_seconds) = (self.path.as_str(), ttl.map(|ttl| ttl.as_secs_f64()));
        let bytes = first.bytes();
        if let Some(bytes) = bytes {
            Indexing::default().appended(|| created.clone(), bytes, bytes);
        }
        self.caller.log(|pid, uid| {
            routine!(
                self.in_request,
                stream,
                pid,
                uid,
                ring_buffer_size,
                channel_buffer_size,
                ttl_seconds,
                bytes,
                replace = replace.then_some(true),
                shared = (cfg!(target_os = "linux") && !created.is_shared()).then_some(false),
                "stream created"
            );
        });
        if first.close {
            self.log_close();
        }
        Ok(created)
    }

    /// Finds the stream. Creates it with these options if it does not exist or if they replace it.
    /// Also returns whether the stream was created.
    ///
    /// # Errors
    ///
    /// Those of [`create`](Self::create).
    pub async fn open_or_create_with(
        &self,
        options: CreateOptions,
    ) -> Result<(Stream, bool), Failure> {
        let replaces = options.if_exists == IfExists::Replace;
        loop {
            if !replaces && let Some(stream) = self.find().await? {
                return Ok((stream, false));
            }
            match self.create_with(options.clone(), None, First::default()).await {
                // Another client created the stream between the two calls.
                Err(failure) if failure.code == ErrorCode::AlreadyExists => {}
                created => return Ok((created?, true)),
            }
        }
    }

    /// Logs a line about this client. The arguments of `line` are whether the request has a line of
    /// its own, the pid and the uid.
    pub(crate) fn log(&self, line: impl FnOnce(bool, Option<u32>, Option<u32>)) {
        self.caller.log(|pid, uid| line(self.in_request, pid, uid));
    }

    /// Checks the permission again, because a protocol may have waited for a whole body since the
    /// first check.
    fn check(&self) -> Result<(), Failure> {
        self.caller.permissions.may_write(self.path.as_str())
    }

    /// The cutoff of a writer.
    pub(crate) fn cutoff(&self) -> Cutoff {
        Cutoff::new(self, Needs::Write)
    }

    /// Attaches a writer to a stream that one of the methods above returned.
    ///
    /// # Errors
    ///
    /// The stream is closed or removed, or the caller may not write this path any more.
    pub async fn append(&self, stream: &Stream) -> Result<Append, Failure> {
        self.check()?;
        let writer = self.mount.writer(&self.path, stream, self.caller.peer).await?;
        Ok(Append::new(
            self.caller,
            &self.path,
            writer,
            self.daemon.max_block_time.subscribe(),
            self.cutoff(),
            self.in_request,
        ))
    }

    /// Removes the stream with this identity if no client has used it: a stream that was created
    /// for a writer that withdrew.
    ///
    /// # Errors
    ///
    /// The mount cannot find or remove the stream.
    pub(crate) async fn remove_unused(&self, identity: Identity) -> Result<(), Failure> {
        match self.find().await? {
            Some(stream) if stream.identity() == identity && stream.is_unused() => {
                self.remove(&stream).await
            }
            _ => Ok(()),
        }
    }

    /// Closes a stream that one of the methods above returned, for a client that is not its writer.
    ///
    /// # Errors
    ///
    /// The mount cannot close the stream.
    pub async fn close(&self, stream: &Stream) -> Result<(), Failure> {
        self.mount.close(&self.path, stream).await?;
        self.log_close();
        Ok(())
    }

    /// Closes a stream as failed, for a client that is not its writer.
    ///
    /// # Errors
    ///
    /// The stream was closed before, and not as failed, or the mount cannot close it.
    pub async fn close_failed(&self, stream: &Stream) -> Result<(), Failure> {
        self.mount.close_failed(&self.path, stream).await?;
        let stream = self.path.as_str();
        self.caller.log(|pid, uid| tracing::warn!(stream, pid, uid, "stream closed as failed"));
        Ok(())
    }

    fn log_close(&self) {
        let stream = self.path.as_str();
        self.caller.log(|pid, uid| routine!(self.in_request, stream, pid, uid, "stream closed"));
    }

    /// Removes a stream that one of the methods above returned. Another stream that has the path by
    /// now stays.
    ///
    /// # Errors
    ///
    /// The stream does not exist any more.
    pub async fn remove(&self, stream: &Stream) -> Result<(), Failure> {
        self.mount.remove(&self.path, stream).await?;
        let stream = self.path.as_str();
        self.caller.log(|pid, uid| tracing::info!(stream, pid, uid, "stream removed"));
        Ok(())
    }
}

/// Overrides the mount's defaults with the creator's options.
fn stream_config(default: StreamConfig, options: CreateOptions) -> Result<StreamConfig, String> {
    let CreateOptions {
        ring_buffer_size,
        channel_buffer_size,
        ttl,
        content_type,
        if_exists: _,
        reserve,
    } = options;
    if ttl == Some(Duration::ZERO) {
        return Err("a time to live of zero would remove the stream at once".to_owned());
    }
    if let Some(content_type) = &content_type {
        if !(1..=MAX_CONTENT_TYPE).contains(&content_type.len()) {
            return Err(format!(
                "a content type must have 1 to {MAX_CONTENT_TYPE} bytes, such as video/mp2t"
            ));
        }
        if let Some(found) = Unprintable::find(content_type) {
            return Err(format!("{found}, which no content type may have"));
        }
    }
    Ok(StreamConfig {
        ring_buffer_size: ring_buffer_size.unwrap_or(default.ring_buffer_size),
        channel_buffer_size: channel_buffer_size.unwrap_or(default.channel_buffer_size),
        ttl,
        deadline: None,
        content_type,
        reserve,
        ..default
    })
}
