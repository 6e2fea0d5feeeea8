//! What a host keeps about a stream, gone when the stream is.

use std::{
    any::Any,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// At most one thing of each type.
#[derive(Default)]
pub(crate) struct Kept(Mutex<Vec<Arc<dyn Any + Send + Sync>>>);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

impl Kept {
    /// The thing of this type, made when it is first asked for.
    pub(crate) fn get<T: Any + Send + Sync + Default>(&self) -> Arc<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.iter().find_map(|thing| Arc::clone(thing).downcast::<T>().ok());
        known.unwrap_or_else(|| {
            let thing = Arc::<T>::default();
            kept.push(Arc::clone(&thing) as Arc<dyn Any + Send + Sync>);
            thing
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
    fn what_is_kept_is_the_same_for_all_handles_and_goes_with_the_last() {
        let stream = Stream::new("s", StreamConfig::default()).unwrap();
        stream.kept::<AtomicU32>().store(7, Ordering::Relaxed);
        assert_eq!(*stream.kept::<String>(), "", "another type is another thing");
        let kept = Arc::downgrade(&stream.clone().kept::<AtomicU32>());
        assert_eq!(kept.upgrade().unwrap().load(Ordering::Relaxed), 7);
        drop(stream);
        assert!(kept.upgrade().is_none());
    }
}
