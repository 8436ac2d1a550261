//! Tests that hold on either store.

/// Runs a test on each store.
macro_rules! on_both_stores {
    ($($(#[$attribute:meta])* $test:ident,)+) => {
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let world = $crate::contract::store::World::postgres().await;
                    let store = std::sync::Arc::clone(&world.store);
                    super::$test($crate::support::world::World::unhurried(store).await).await;
                }
            )+
        }

        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($crate::support::world::World::embedded().await).await;
                }
            )+
        }
    };
}

pub(crate) use on_both_stores;
