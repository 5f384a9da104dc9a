-- Tables of format 1 as the first program made them, with rows: what every later one has to go on with. Written down once, never changed.

CREATE TABLE switchyard_meta (
  id int NOT NULL PRIMARY KEY,
  format bigint NOT NULL,
  revision bigint NOT NULL,
  compact_revision bigint NOT NULL,
  swept_revision bigint NOT NULL,
  cluster_id bigint NOT NULL,
  writer bigint NOT NULL,
  batch bigint NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4;

CREATE TABLE switchyard_log (
  mod_revision bigint NOT NULL,
  k varbinary(2048) NOT NULL,
  sub bigint NOT NULL,
  create_revision bigint NOT NULL,
  version bigint NOT NULL,
  lease bigint NOT NULL,
  tombstone tinyint NOT NULL,
  prev_revision bigint NOT NULL,
  value longblob NOT NULL,
  PRIMARY KEY (mod_revision, k),
  UNIQUE (k, mod_revision)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4;

CREATE TABLE switchyard_current (
  k varbinary(2048) NOT NULL PRIMARY KEY,
  mod_revision bigint NOT NULL,
  sub bigint NOT NULL,
  create_revision bigint NOT NULL,
  version bigint NOT NULL,
  lease bigint NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4;

CREATE TABLE switchyard_lease (
  id bigint NOT NULL PRIMARY KEY,
  ttl_seconds bigint NOT NULL,
  expires_at bigint NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4;

CREATE TABLE switchyard_lease_key (
  lease bigint NOT NULL,
  k varbinary(2048) NOT NULL,
  PRIMARY KEY (lease, k)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4;

INSERT INTO switchyard_meta (id, format, revision, compact_revision, swept_revision, cluster_id, writer, batch)
  VALUES (1, 1, 7, 2, 2, 1234567890123456789, 42, 9);

-- /registry/configmaps/default/first
INSERT INTO switchyard_log (mod_revision, k, sub, create_revision, version, lease, tombstone, prev_revision, value)
  VALUES (2, x'2f72656769737472792f636f6e6669676d6170732f64656661756c742f6669727374', 0, 2, 1, 0, 0, 0, x'6f6e65');

-- /registry/data.example.com/largedata/team-a/big
INSERT INTO switchyard_log (mod_revision, k, sub, create_revision, version, lease, tombstone, prev_revision, value)
  VALUES (3, x'2f72656769737472792f646174612e6578616d706c652e636f6d2f6c61726765646174612f7465616d2d612f626967', 0, 3, 1, 0, 0, 0, x'7b2261706956657273696f6e223a22646174612e6578616d706c652e636f6d2f7631222c226b696e64223a224c6172676544617461222c226d65746164617461223a7b226e616d65223a22626967222c226e616d657370616365223a227465616d2d61222c22756964223a22303030302d62222c226372656174696f6e54696d657374616d70223a22323032362d30312d30325430333a30343a30355a222c226c6162656c73223a7b227465616d223a2261227d7d2c2273706563223a7b227061796c6f6164223a2278787878787878787878787878787878787878787878787878787878787878787878787878787878222c227061727473223a317d7d');

-- /registry/monitoring.example.com/metrics/default/load
INSERT INTO switchyard_log (mod_revision, k, sub, create_revision, version, lease, tombstone, prev_revision, value)
  VALUES (3, x'2f72656769737472792f6d6f6e69746f72696e672e6578616d706c652e636f6d2f6d6574726963732f64656661756c742f6c6f6164', 1, 3, 1, 77, 0, 0, x'7b2261706956657273696f6e223a226d6f6e69746f72696e672e6578616d706c652e636f6d2f7631222c226b696e64223a224d6574726963222c226d65746164617461223a7b226e616d65223a226c6f6164222c226e616d657370616365223a2264656661756c74222c22756964223a22303030302d63222c226372656174696f6e54696d657374616d70223a22323032362d30312d30325430333a30343a30355a227d2c2273706563223a7b2276616c7565223a34322c22756e6974223a227265717565737473227d7d');

-- /registry/configmaps/default/first
INSERT INTO switchyard_log (mod_revision, k, sub, create_revision, version, lease, tombstone, prev_revision, value)
  VALUES (4, x'2f72656769737472792f636f6e6669676d6170732f64656661756c742f6669727374', 0, 2, 2, 0, 0, 2, x'74776f');

-- /registry/monitoring.example.com/metrics/default/gone
INSERT INTO switchyard_log (mod_revision, k, sub, create_revision, version, lease, tombstone, prev_revision, value)
  VALUES (5, x'2f72656769737472792f6d6f6e69746f72696e672e6578616d706c652e636f6d2f6d6574726963732f64656661756c742f676f6e65', 0, 5, 1, 0, 0, 0, x'7b2261706956657273696f6e223a226d6f6e69746f72696e672e6578616d706c652e636f6d2f7631222c226b696e64223a224d6574726963222c226d65746164617461223a7b226e616d65223a22676f6e65222c226e616d657370616365223a2264656661756c74222c22756964223a22303030302d64222c226372656174696f6e54696d657374616d70223a22323032362d30312d30325430333a30343a30355a227d2c2273706563223a7b2276616c7565223a317d7d');

-- /registry/monitoring.example.com/metrics/default/gone
INSERT INTO switchyard_log (mod_revision, k, sub, create_revision, version, lease, tombstone, prev_revision, value)
  VALUES (6, x'2f72656769737472792f6d6f6e69746f72696e672e6578616d706c652e636f6d2f6d6574726963732f64656661756c742f676f6e65', 0, 0, 0, 0, 1, 5, x'');

-- /registry/pods/default/web
INSERT INTO switchyard_log (mod_revision, k, sub, create_revision, version, lease, tombstone, prev_revision, value)
  VALUES (7, x'2f72656769737472792f706f64732f64656661756c742f776562', 0, 7, 1, 0, 0, 0, x'6b3873000a090a0276311203506f64');

INSERT INTO switchyard_current (k, mod_revision, sub, create_revision, version, lease)
  VALUES (x'2f72656769737472792f636f6e6669676d6170732f64656661756c742f6669727374', 4, 0, 2, 2, 0);

INSERT INTO switchyard_current (k, mod_revision, sub, create_revision, version, lease)
  VALUES (x'2f72656769737472792f646174612e6578616d706c652e636f6d2f6c61726765646174612f7465616d2d612f626967', 3, 0, 3, 1, 0);

INSERT INTO switchyard_current (k, mod_revision, sub, create_revision, version, lease)
  VALUES (x'2f72656769737472792f6d6f6e69746f72696e672e6578616d706c652e636f6d2f6d6574726963732f64656661756c742f6c6f6164', 3, 1, 3, 1, 77);

INSERT INTO switchyard_current (k, mod_revision, sub, create_revision, version, lease)
  VALUES (x'2f72656769737472792f706f64732f64656661756c742f776562', 7, 0, 7, 1, 0);

INSERT INTO switchyard_lease (id, ttl_seconds, expires_at) VALUES (77, 9000000000, 4102444800000);

INSERT INTO switchyard_lease_key (lease, k) VALUES (77, x'2f72656769737472792f6d6f6e69746f72696e672e6578616d706c652e636f6d2f6d6574726963732f64656661756c742f6c6f6164');
