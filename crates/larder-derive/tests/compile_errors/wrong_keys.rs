use larder::{Cache, Entry};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "account", key(index = "login", fields = (tenant, name)))]
struct Account {
    #[key(primary)]
    number: u64,
    tenant: String,
    name: String,
    #[key(index)]
    digest: Vec<u8>,
}

async fn look_up(accounts: Cache<Account>) {
    // A part is missing.
    accounts.get(Account::LOGIN, "jo").await;
    accounts.get(Account::LOGIN, ("jo",)).await;
    // A part is of another type.
    accounts.get(Account::LOGIN, ("acme", 7)).await;
    // The bytes would be the same.
    accounts.get(Account::NUMBER, "7").await;
    accounts.get(Account::NUMBER, 7_u32).await;
    // An array is no list.
    accounts.get(Account::DIGEST, b"abc").await;
    // Keys of another index.
    accounts.invalidate(Account::LOGIN, [7, 8]).await.ok();
    accounts.get_or_load(Account::NUMBER, "jo", |_: u64| async { Ok::<_, String>(None) }).await.ok();
    // The loader gets what the index takes.
    accounts.get_or_load(Account::NUMBER, 7, |_: String| async { Ok::<_, String>(None) }).await.ok();
}

fn main() {}
