BEGIN TRANSACTION;
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY, step INTEGER NOT NULL, item INTEGER NOT NULL, invocation INTEGER NOT NULL,
    request_id TEXT NOT NULL, key TEXT NOT NULL, number INTEGER NOT NULL, model TEXT NOT NULL, started_at REAL NOT NULL,
    outcome TEXT, code TEXT, status INTEGER, error TEXT, latency_s REAL, wait_s REAL, billed TEXT,
    input_tokens INTEGER, output_tokens INTEGER, cached_tokens INTEGER, reasoning_tokens INTEGER, cost_usd REAL,
    reserved_usd REAL, reserved_tokens INTEGER, request TEXT, reply TEXT, raw TEXT, provider_request_id TEXT);
INSERT INTO "attempts" VALUES(1,1,2,1,'64d58cf29b09b709','e2fc9fd260a34358bba3b22a7e980641c94784059bbf7fb3760224c889a20eef',1,'echo/m',1.79580877891082096092e+09,'ok',NULL,NULL,NULL,2.22596829000053730851e-01,NULL,'yes',6,3,NULL,NULL,0.0,0.0,0,NULL,'{"text":"echo: r0 t0","model":"m","provider":"echo","usage":{"input_tokens":6,"output_tokens":3},"request_id":"64d58cf29b09b709","latency_s":0.22259682900005373,"answered_by":"echo/m"}',NULL,NULL);
INSERT INTO "attempts" VALUES(2,1,3,1,'ce70b38fe205618a','6f5e230b2b2b0ef4a231a920496452f41b4c639c218bb26dc3b04007adb585ec',1,'echo/m',1.7958087791694183349e+09,'ok',NULL,NULL,NULL,2.00981095999964054499e-01,NULL,'yes',6,3,NULL,NULL,0.0,0.0,0,NULL,'{"text":"echo: r1 t1","model":"m","provider":"echo","usage":{"input_tokens":6,"output_tokens":3},"request_id":"ce70b38fe205618a","latency_s":0.20098109599996405,"answered_by":"echo/m"}',NULL,NULL);
INSERT INTO "attempts" VALUES(3,1,4,1,'782f9e504142fcc4','7588bc6ee2107168b10b5651eb1f6397994b06873f41009d8cb8ec5365c43c72',1,'echo/m',1.79580877937565135948e+09,'ok',NULL,NULL,NULL,2.00914150999892626714e-01,NULL,'yes',6,3,NULL,NULL,0.0,0.0,0,NULL,'{"text":"echo: r2 bad","model":"m","provider":"echo","usage":{"input_tokens":6,"output_tokens":3},"request_id":"782f9e504142fcc4","latency_s":0.20091415099989263,"answered_by":"echo/m"}',NULL,NULL);
INSERT INTO "attempts" VALUES(4,1,5,1,'63d43a9df682819b','bc02f2ed9e40b3e0460cf081d47ae85d1d471f3830e57276569135b871f01ea2',1,'echo/m',1.79580877958925604824e+09,'ok',NULL,NULL,NULL,2.0165009100003317144e-01,NULL,'yes',6,3,NULL,NULL,0.0,0.0,0,NULL,'{"text":"echo: r3 t3","model":"m","provider":"echo","usage":{"input_tokens":6,"output_tokens":3},"request_id":"63d43a9df682819b","latency_s":0.20165009100003317,"answered_by":"echo/m"}',NULL,NULL);
INSERT INTO "attempts" VALUES(5,1,6,1,'abd11da1e82309bb','b7a39a182141f3053964bc88196a31fa014a2de7fe369eb5c864ad31c000da73',1,'echo/m',1.79580877979671382901e+09,'ok',NULL,NULL,NULL,2.02185154000062539125e-01,NULL,'yes',6,3,NULL,NULL,0.0,0.0,0,NULL,'{"text":"echo: r4 t4","model":"m","provider":"echo","usage":{"input_tokens":6,"output_tokens":3},"request_id":"abd11da1e82309bb","latency_s":0.20218515400006254,"answered_by":"echo/m"}',NULL,NULL);
INSERT INTO "attempts" VALUES(6,1,7,1,'f0bebddfb1812cf8','907317d01ba9f6bb42dcc067dc54ea6b9c0c1f5135f1f2e12d971573a043b53f',1,'echo/m',1.79580878000865268705e+09,'ok',NULL,NULL,NULL,2.00911236000024473469e-01,NULL,'yes',6,3,NULL,NULL,0.0,0.0,0,NULL,'{"text":"echo: r5 t5","model":"m","provider":"echo","usage":{"input_tokens":6,"output_tokens":3},"request_id":"f0bebddfb1812cf8","latency_s":0.20091123600002447,"answered_by":"echo/m"}',NULL,NULL);
CREATE TABLE changed_items (item INTEGER PRIMARY KEY);
CREATE TABLE datasets (
    name TEXT PRIMARY KEY, sha256 TEXT NOT NULL, rows INTEGER NOT NULL, head_bytes INTEGER NOT NULL,
    head_sha256 TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "datasets" VALUES('d','4fd95aee579f743794d3ae8165f63abd96dc73791be5234c81bd48e414dc5ce7',6,163,'63030aaf46061107ef559a074ca470b976e001414bc0ead28049e7bd8292f0cd');
CREATE TABLE invocations (
    id INTEGER PRIMARY KEY, started_at REAL NOT NULL, finished_at REAL, pid INTEGER, command TEXT);
INSERT INTO "invocations" VALUES(1,1.79580877863634109491e+09,1.79580878023134708409e+09,10440,'llmpipe run pipelines/x.yaml --quiet');
CREATE TABLE items (
    id INTEGER PRIMARY KEY, scope INTEGER NOT NULL, key TEXT NOT NULL, parent INTEGER, ord TEXT NOT NULL,
    data TEXT NOT NULL, digest BLOB NOT NULL, live INTEGER NOT NULL DEFAULT 1,
    UNIQUE (scope, key));
INSERT INTO "items" VALUES(1,1,'',NULL,'','{}',X'',1);
INSERT INTO "items" VALUES(2,2,'r0',NULL,'00000000','{"id": "r0", "text": "t0"}',X'03296BEB8FFAB71E9DBDA0D2FEEE5B08',1);
INSERT INTO "items" VALUES(3,2,'r1',NULL,'00000001','{"id": "r1", "text": "t1"}',X'03C4F7B33B3D8A75B04D98E12888DD48',1);
INSERT INTO "items" VALUES(4,2,'r2',NULL,'00000002','{"id": "r2", "text": "bad"}',X'C1A111C17100CB24027E7D7902A7C950',1);
INSERT INTO "items" VALUES(5,2,'r3',NULL,'00000003','{"id": "r3", "text": "t3"}',X'93BF1F8A9B7A2FDC953A3963913076FD',1);
INSERT INTO "items" VALUES(6,2,'r4',NULL,'00000004','{"id": "r4", "text": "t4"}',X'075965B1E6BAF6F24D1AD40BD34A7509',1);
INSERT INTO "items" VALUES(7,2,'r5',NULL,'00000005','{"id": "r5", "text": "t5"}',X'C63B8A949BBF96683349740C63F30D2E',1);
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('results_of','16564a0b896aa15b043347b1a01a6f60');
INSERT INTO "meta" VALUES('version','1');
CREATE TABLE results (
    step INTEGER NOT NULL, item INTEGER NOT NULL, status TEXT NOT NULL, digest BLOB NOT NULL, output TEXT,
    reason TEXT, error_type TEXT, code TEXT, error TEXT, permanent INTEGER NOT NULL DEFAULT 0, failure_file TEXT,
    cached INTEGER NOT NULL DEFAULT 0, carried INTEGER NOT NULL DEFAULT 0, reasks INTEGER NOT NULL DEFAULT 0,
    retries INTEGER NOT NULL DEFAULT 0, fallbacks INTEGER NOT NULL DEFAULT 0, latency_s REAL, answered_by TEXT,
    notes TEXT, request_key TEXT, finished_at REAL NOT NULL, PRIMARY KEY (step, item)) WITHOUT ROWID;
INSERT INTO "results" VALUES(1,2,'succeeded',X'C9437D13A5EC7ADC835490097F1F850A','"echo: r0 t0"',NULL,NULL,NULL,NULL,0,NULL,0,0,0,0,0,2.22596829000053730851e-01,'echo/m','','e2fc9fd260a34358bba3b22a7e980641c94784059bbf7fb3760224c889a20eef',1795808779.18442);
INSERT INTO "results" VALUES(1,3,'succeeded',X'B9E37D9E36FF859E3779B7A3A0E60697','"echo: r1 t1"',NULL,NULL,NULL,NULL,0,NULL,0,0,0,0,0,2.00981095999964054499e-01,'echo/m','','6f5e230b2b2b0ef4a231a920496452f41b4c639c218bb26dc3b04007adb585ec',1.7958087793815028667e+09);
INSERT INTO "results" VALUES(1,4,'failed',X'C757E9DEA243F04B568E033447A6916A',NULL,NULL,'CheckFailed','O504','the check `''bad'' not in output` does not hold: output is "echo: r2 bad"',1,'failures/one/r2-db77fd01.json',0,0,0,0,0,NULL,NULL,NULL,NULL,1.79580877959993243219e+09);
INSERT INTO "results" VALUES(1,5,'succeeded',X'7CAB291FA28B8FC72FB53CFB6BE12C53','"echo: r3 t3"',NULL,NULL,NULL,NULL,0,NULL,0,0,0,0,0,2.0165009100003317144e-01,'echo/m','','bc02f2ed9e40b3e0460cf081d47ae85d1d471f3830e57276569135b871f01ea2',1.79580877979990315433e+09);
INSERT INTO "results" VALUES(1,6,'succeeded',X'75C8FFCC24A918E0CDA2656675FFA07A','"echo: r4 t4"',NULL,NULL,NULL,NULL,0,NULL,0,0,0,0,0,2.02185154000062539125e-01,'echo/m','','b7a39a182141f3053964bc88196a31fa014a2de7fe369eb5c864ad31c000da73',1.79580878001080107685e+09);
INSERT INTO "results" VALUES(1,7,'succeeded',X'E47B9B965AD717BB51586B30F00A8B9F','"echo: r5 t5"',NULL,NULL,NULL,NULL,0,NULL,0,0,0,0,0,2.00911236000024473469e-01,'echo/m','','907317d01ba9f6bb42dcc067dc54ea6b9c0c1f5135f1f2e12d971573a043b53f',1.79580878021540856362e+09);
INSERT INTO "results" VALUES(2,2,'succeeded',X'DA3C69E0F663FAC367AF5FBD0AC3E3CA','"<echo: r0 t0>"',NULL,NULL,NULL,NULL,0,NULL,0,0,0,0,0,NULL,NULL,NULL,NULL,1.7958087791864831448e+09);
INSERT INTO "results" VALUES(2,3,'succeeded',X'9E7342258F78BCE2A3F7267EA65E62E5','"<echo: r1 t1>"',NULL,NULL,NULL,NULL,0,NULL,0,0,0,0,0,NULL,NULL,NULL,NULL,1.7958087793832902909e+09);
INSERT INTO "results" VALUES(2,4,'skipped',X'',NULL,'one failed (O504)',NULL,NULL,NULL,0,NULL,0,0,0,0,0,NULL,NULL,NULL,NULL,1.79580877960107421868e+09);
INSERT INTO "results" VALUES(2,5,'succeeded',X'4420C062702C51F28B39392213F3952A','"<echo: r3 t3>"',NULL,NULL,NULL,NULL,0,NULL,0,0,0,0,0,NULL,NULL,NULL,NULL,1.79580877980508422852e+09);
INSERT INTO "results" VALUES(2,6,'succeeded',X'9769F82FF9BA6A9F2FA693D29228A27D','"<echo: r4 t4>"',NULL,NULL,NULL,NULL,0,NULL,0,0,0,0,0,NULL,NULL,NULL,NULL,1.79580878001274037367e+09);
INSERT INTO "results" VALUES(2,7,'succeeded',X'041D8B0AF30B7F4F45FFEBFC05B4455D','"<echo: r5 t5>"',NULL,NULL,NULL,NULL,0,NULL,0,0,0,0,0,NULL,NULL,NULL,NULL,1.79580878021696972845e+09);
CREATE TABLE scopes (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
INSERT INTO "scopes" VALUES(1,'root');
INSERT INTO "scopes" VALUES(2,'dataset:d');
CREATE TABLE steps (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, scope INTEGER NOT NULL, kind TEXT NOT NULL, model TEXT NOT NULL);
INSERT INTO "steps" VALUES(1,'one',2,'model','echo/m');
INSERT INTO "steps" VALUES(2,'two',2,'render','');
CREATE INDEX items_in_order ON items (scope, ord) WHERE live = 1;
CREATE INDEX items_below ON items (parent, scope) WHERE parent IS NOT NULL;
CREATE INDEX results_not_succeeded ON results (step, status, item) WHERE status <> 'succeeded';
CREATE INDEX attempts_of ON attempts (step, item);
CREATE INDEX attempts_open ON attempts (id) WHERE outcome IS NULL;
CREATE VIEW answers AS
    SELECT steps.name AS step, items.key AS key, results.status AS status, results.output AS output,
           results.code AS code, results.error AS error, results.reason AS reason, items.ord AS ord
    FROM results JOIN steps ON steps.id = results.step JOIN items ON items.id = results.item WHERE items.live = 1;
CREATE VIEW spending AS
    SELECT steps.name AS step, attempts.model AS model, COUNT(*) AS attempts, SUM(input_tokens) AS input_tokens,
           SUM(output_tokens) AS output_tokens, SUM(cost_usd) AS cost_usd, SUM(outcome IS NULL) AS unknown_outcome
    FROM attempts JOIN steps ON steps.id = attempts.step GROUP BY steps.name, attempts.model;
COMMIT;
