use larder::{Cache, Entry};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "account", key(index = "login", fields = (tenant, name)))]
struct Account {
    #[key(primary)]
    number: u64,
    tenant: String,
    name: String,
}

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "site")]
struct Site {
    #[key(primary)]
    id: String,
}

async fn change(accounts: Cache<Account>, client: tokio_postgres::Client) {
    // A key of another index.
    accounts.invalidate_in(&client, Account::LOGIN, ["jo"]).await.ok();
    accounts.invalidate_in(&client, Account::NUMBER, ["jo"]).await.ok();
    // An index of another entry.
    accounts.invalidate_in(&client, Site::ID, ["7"]).await.ok();
    // No transaction.
    accounts.invalidate_in(client, Account::NUMBER, [7]).await.ok();
    accounts.truncate_in("account").await.ok();
}

fn main() {}
