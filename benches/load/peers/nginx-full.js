// Verifies the caller's token and hands the request on.

import fs from 'fs';

// Read once, when nginx starts. The key itself is made for each request: an object of crypto.subtle does
// not outlive the request that it was made in.
const DER = Buffer.from(
    fs.readFileSync('@PUBLIC_KEY@', 'utf8').replace(/-----[^-]*-----|\s/g, ''), 'base64');
const RS256 = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };
const STRIPPED = /(^|&)(?:sp|sv|sig|code)=[^&]*/g;

async function authorize(r) {
    const header = r.headersIn.Authorization;
    if (!header || !header.startsWith('Bearer ')) {
        r.return(401);
        return;
    }
    const parts = header.slice(7).split('.');
    if (parts.length != 3 || !await signed(parts)) {
        r.return(401);
        return;
    }
    const claims = JSON.parse(Buffer.from(parts[1], 'base64url'));
    const now = Date.now() / 1000;
    if (claims.iss != '@ISSUER@' || claims.aud != '@AUDIENCE@' || !(claims.exp > now) || claims.nbf > now) {
        r.return(401);
        return;
    }
    if (claims.tid != '@TENANT@' || claims.azp != '@APP@'
        || !Array.isArray(claims.roles) || !claims.roles.includes('@ROLE@')) {
        r.return(403);
        return;
    }
    r.variables.caller = claims.tid + '|' + claims.azp;
    if (r.variables.args) {
        r.variables.args = r.variables.args.replace(STRIPPED, '').replace(/^&/, '');
    }
    r.internalRedirect('@workflow');
}

async function signed(parts) {
    const key = await crypto.subtle.importKey('spki', DER, RS256, false, ['verify']);
    return crypto.subtle.verify(
        RS256, key, Buffer.from(parts[2], 'base64url'), parts[0] + '.' + parts[1]);
}

export default { authorize };
