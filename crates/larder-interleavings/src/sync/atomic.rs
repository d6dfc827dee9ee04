//! Atomics of loom, changed so that loom tries loads in every order, too.
//!
//! To find out which orders can differ, loom 0.7 compares each access to an atomic only with the last access before it. Take a thread
//! that loads and then writes, as every loop around a compare-and-exchange does. Loom compares its write with its own load, and so
//! never tries to run the loads of other threads after that write.
//!
//! Here each access begins with a step on a shadow of the atomic. Loom takes the step for a write, and so tries any two accesses in
//! both orders. The steps are relaxed: they order nothing else.

pub(crate) use loom::sync::atomic::Ordering;

macro_rules! atomic {
    ($name:ident, $number:ty) => {
        #[derive(Debug, Default)]
        pub(crate) struct $name {
            atomic: loom::sync::atomic::$name,
            shadow: loom::sync::atomic::AtomicUsize,
        }

        #[allow(dead_code, reason = "no atomic is used in every way")]
        impl $name {
            pub(crate) fn new(value: $number) -> Self {
                Self { atomic: loom::sync::atomic::$name::new(value), shadow: Default::default() }
            }

            fn step(&self) -> &loom::sync::atomic::$name {
                self.shadow.fetch_add(0, Ordering::Relaxed);
                &self.atomic
            }

            pub(crate) fn load(&self, order: Ordering) -> $number {
                self.step().load(order)
            }

            pub(crate) fn store(&self, value: $number, order: Ordering) {
                self.step().store(value, order);
            }

            pub(crate) fn swap(&self, value: $number, order: Ordering) -> $number {
                self.step().swap(value, order)
            }

            pub(crate) fn fetch_add(&self, value: $number, order: Ordering) -> $number {
                self.step().fetch_add(value, order)
            }

            pub(crate) fn fetch_sub(&self, value: $number, order: Ordering) -> $number {
                self.step().fetch_sub(value, order)
            }

            pub(crate) fn fetch_and(&self, value: $number, order: Ordering) -> $number {
                self.step().fetch_and(value, order)
            }

            pub(crate) fn fetch_or(&self, value: $number, order: Ordering) -> $number {
                self.step().fetch_or(value, order)
            }

            pub(crate) fn fetch_max(&self, value: $number, order: Ordering) -> $number {
                self.step().fetch_max(value, order)
            }

            pub(crate) fn compare_exchange(
                &self,
                old: $number,
                new: $number,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$number, $number> {
                self.step().compare_exchange(old, new, success, failure)
            }

            pub(crate) fn compare_exchange_weak(
                &self,
                old: $number,
                new: $number,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$number, $number> {
                self.step().compare_exchange_weak(old, new, success, failure)
            }

            pub(crate) fn fetch_update(
                &self,
                success: Ordering,
                failure: Ordering,
                mut update: impl FnMut($number) -> Option<$number>,
            ) -> Result<$number, $number> {
                let mut old = self.load(failure);
                while let Some(new) = update(old) {
                    match self.compare_exchange_weak(old, new, success, failure) {
                        Ok(old) => return Ok(old),
                        Err(changed) => old = changed,
                    }
                }
                Err(old)
            }
        }
    };
}

atomic!(AtomicU64, u64);
atomic!(AtomicUsize, usize);
