//! Extensions: data that a host attaches to a stream, one value of each type. Extensions are
//! dropped with the stream.

use std::{
    any::Any,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// A map with at most one value of each type.
#[derive(Default)]
pub(crate) struct Extensions(Mutex<Vec<Arc<dyn Any + Send + Sync>>>);

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extensions").finish_non_exhaustive()
    }
}

impl Extensions {
    /// Returns the value of this type, created on first use.
    pub(crate) fn get<T: Any + Send + Sync + Default>(&self) -> Arc<T> {
        let mut extensions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = extensions.iter().find_map(|value| Arc::clone(value).downcast::<T>().ok());
        known.unwrap_or_else(|| {
            let value = Arc::<T>::default();
            extensions.push(Arc::clone(&value) as Arc<dyn Any + Send + Sync>);
            value
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use crate::{Stream, StreamConfig};

    #[test]
    fn all_handles_share_an_extension_which_is_dropped_with_the_last_handle() {
        let stream = Stream::new("s", StreamConfig::default()).unwrap();
        stream.extension::<AtomicU32>().store(7, Ordering::Relaxed);
        assert_eq!(*stream.extension::<String>(), "", "each type has its own value");
        let kept = Arc::downgrade(&stream.clone().extension::<AtomicU32>());
        assert_eq!(kept.upgrade().unwrap().load(Ordering::Relaxed), 7);
        drop(stream);
        assert!(kept.upgrade().is_none());
    }
}
