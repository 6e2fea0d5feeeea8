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

fn find<T: Any + Send + Sync>(values: &[Arc<dyn Any + Send + Sync>]) -> Option<Arc<T>> {
    values.iter().find_map(|value| Arc::clone(value).downcast().ok())
}

impl Extensions {
    /// Returns the value of this type, if there is one.
    pub(crate) fn find<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        find(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the value of this type, created on first use.
    pub(crate) fn get<T: Any + Send + Sync + Default>(&self) -> Arc<T> {
        let mut extensions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        find(&extensions).unwrap_or_else(|| {
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
        assert!(stream.existing_extension::<AtomicU32>().is_none());
        stream.extension::<AtomicU32>().store(7, Ordering::Relaxed);
        assert_eq!(*stream.extension::<String>(), "", "each type has its own value");
        let kept = Arc::downgrade(&stream.clone().extension::<AtomicU32>());
        assert_eq!(kept.upgrade().unwrap().load(Ordering::Relaxed), 7);
        drop(stream);
        assert!(kept.upgrade().is_none());
    }
}
