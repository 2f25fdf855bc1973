use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::SqliteStore;
use super::rows::{moment, seconds};
use crate::model::Secret;
use crate::store::keys::new_secret;
use crate::store::{KeyRepository, StoreError, StoredKey};

#[async_trait]
impl KeyRepository for SqliteStore {
    async fn secret(&self, name: &str) -> Result<Zeroizing<[u8; 32]>, StoreError> {
        const READ: &str = "SELECT value FROM secrets WHERE name = $1";
        let mut reader = self.reader("read a secret").await?;
        let found = sqlx::query_scalar(READ)
            .bind(name)
            .fetch_optional(&mut *reader.connection)
            .await;
        let mut found: Option<String> = reader.finish(found)?;
        if found.is_none() {
            let made = Zeroizing::new(URL_SAFE_NO_PAD.encode(new_secret()));
            let mut lease = self.writer.lease("keep a secret").await?;
            let kept = async {
                let writer = lease.connection()?;
                sqlx::query("INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
                    .bind(name)
                    .bind(made.as_str())
                    .execute(&mut *writer)
                    .await?;
                sqlx::query_scalar(READ).bind(name).fetch_one(writer).await
            };
            let kept = kept.await;
            found = Some(lease.finish(kept).await?);
        }
        let text = Zeroizing::new(found.unwrap_or_default());
        let mut bytes = Zeroizing::new([0_u8; 32]);
        match URL_SAFE_NO_PAD.decode_slice(text.as_bytes(), bytes.as_mut()) {
            Ok(32) => Ok(bytes),
            _ => Err(StoreError::Malformed { what: "secret" }),
        }
    }

    async fn signing_keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        type Row = (String, String, String, i64, Option<i64>);
        let mut reader = self.reader("read the signing keys").await?;
        let rows = sqlx::query_as(
            "SELECT kid, pkcs8, certificate, made, retired FROM signing_keys ORDER BY made DESC, kid DESC",
        )
        .fetch_all(&mut *reader.connection)
        .await;
        let rows: Vec<Row> = reader.finish(rows)?;
        let read = |(kid, pkcs8, certificate_pem, made, retired): Row| {
            Some(StoredKey {
                kid: kid.into(),
                pkcs8: Secret::new(pkcs8),
                certificate_pem,
                made: moment(made)?,
                retired: retired.map(moment).map_or(Some(None), |at| at.map(Some))?,
            })
        };
        rows.into_iter()
            .map(|row| {
                read(row).ok_or(StoreError::Malformed {
                    what: "signing key",
                })
            })
            .collect()
    }

    async fn put_signing_key(&self, key: &StoredKey) -> Result<(), StoreError> {
        let mut lease = self.writer.lease("keep a signing key").await?;
        let kept = async {
            sqlx::query(
                "INSERT INTO signing_keys (kid, pkcs8, certificate, made, retired) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (kid) DO UPDATE SET pkcs8 = excluded.pkcs8, certificate = excluded.certificate, \
                 made = excluded.made, retired = excluded.retired",
            )
            .bind(&*key.kid)
            .bind(key.pkcs8.expose())
            .bind(&key.certificate_pem)
            .bind(seconds(key.made))
            .bind(key.retired.map(seconds))
            .execute(lease.connection()?)
            .await
        };
        let kept = kept.await;
        lease.finish(kept).await.map(drop)
    }

    async fn delete_signing_key(&self, kid: &str) -> Result<(), StoreError> {
        let mut lease = self.writer.lease("delete a signing key").await?;
        let deleted = async {
            let delete = sqlx::query("DELETE FROM signing_keys WHERE kid = $1").bind(kid);
            delete.execute(lease.connection()?).await
        };
        let deleted = deleted.await;
        lease.finish(deleted).await.map(drop)
    }
}
